"""A run's life on the command line: train, test, stop, resume bit for bit, export."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import host_toy
import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from gltf_file import Glb
from pullback.errors import UserError
from pullback.host import launch
from pullback.host.config import load_config
from pullback.host.training.callbacks import Interrupted, ProgressLine, SafeStop
from pullback.host.training.checkpoint import AtomicCheckpointIO
from pullback.host.training.saving import SaverMixin

PROMPT = "system.prompt=a cube: red [big]"


def run(root: Path, *args: str) -> int:
    config = root / "config.yaml"
    if not config.exists():
        config.write_text(host_toy.CONFIG.format(root=root))
    return launch.main(["--config", str(config), *args])


def final(root: Path) -> dict[str, Any]:
    return torch.load(root / "toy/run/ckpts/epoch=0-step=6.ckpt", weights_only=True)


def same_state(a: dict[str, Any], b: dict[str, Any]) -> bool:
    parameters = torch.equal(a["state_dict"]["geometry.value"], b["state_dict"]["geometry.value"])
    moments = (x["optimizer_states"][0]["state"][0] for x in (a, b))
    return parameters and all(torch.equal(p, q) for p, q in zip(*(m.values() for m in moments), strict=True))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    assert run(root, "--train", PROMPT) == 0
    return root


def test_training_leaves_threestudios_tree(trained: Path) -> None:
    trial = trained / "toy/run"
    for name in (
        "configs/raw.yaml", "configs/parsed.yaml", "cmd.txt", "ckpts/last.ckpt", "ckpts/epoch=0-step=6.ckpt",
        "csv_logs/version_0/metrics.csv", "save/it6-test/0.png", "save/it6-test.mp4",
    ):  # fmt: skip
        assert (trial / name).is_file(), name
    assert list((trial / "tb_logs/version_0").glob("events*"))
    assert load_config(str(trial / "configs/parsed.yaml")).system.prompt == "a cube: red [big]"
    command = shlex.split((trial / "cmd.txt").read_text().splitlines()[0])
    assert command[-1] == PROMPT
    assert len(imageio.mimread(trial / "save/it6-test.mp4")) == 2


def test_the_test_after_training_shows_the_trained_parameters(trained: Path) -> None:
    shown = json.loads((trained / "toy/run/save/value.json").read_text())
    assert torch.equal(torch.tensor(shown), final(trained)["state_dict"]["geometry.value"])


@pytest.mark.parametrize(("action", "status"), [("int", 130), ("term", 143), ("nan", 1), ("fail", 1)])
def test_a_run_cut_short_resumes_bit_for_bit(
    action: str, status: int, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("TOY_AT", f"4:{action}")
    assert run(tmp_path, "--train", PROMPT) == status
    out, err = capsys.readouterr()
    assert ("level 2, sigma 0.5, view 1" in err) == (action == "nan")
    assert ("Traceback" in err) == (action == "fail")
    saved = torch.load(tmp_path / "toy/run/ckpts/last.ckpt", weights_only=True)
    assert saved["global_step"] == (5 if action in ("int", "term") else 4)  # a signal lets the step finish
    assert saved["state_dict"]["geometry.value"].isfinite().all()
    command = shlex.split(next(line for line in out.splitlines() if "resume=" in line))
    monkeypatch.delenv("TOY_AT")
    assert launch.main(command[command.index("--config") :]) == 0
    assert same_state(final(tmp_path), final(trained))


def test_an_exit_that_a_handler_of_signals_asks_for_is_no_end_of_the_run(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_AT", "4:exit")
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, "--train", PROMPT)
    assert caught.value.code == 75
    monkeypatch.delenv("TOY_AT")
    assert run(tmp_path, "--train", PROMPT, f"resume={tmp_path / 'toy/run/ckpts/last.ckpt'}") == 0
    assert same_state(final(tmp_path), final(trained))


def test_sigterm_from_outside_and_the_command_it_prints(trained: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(host_toy.CONFIG.format(root=tmp_path))
    program = [sys.executable, host_toy.__file__]
    env = {**os.environ, "TOY_AT": "2:wait", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [*program, "--config", str(config), "--train", PROMPT], env=env, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    while "waiting" not in (line := child.stdout.readline()):
        assert line, "ended before the step"
    child.send_signal(signal.SIGTERM)
    (tmp_path / "toy/run/go").touch()
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 143
    command = shlex.split(next(line for line in out.splitlines() if "resume=" in line))
    assert shutil.which(command[0]) == sys.executable and command[1] == host_toy.__file__
    assert launch.main(command[command.index("--config") :]) == 0
    assert same_state(final(tmp_path), final(trained))


def test_validating_more_often_changes_nothing(trained: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "--train", PROMPT, "trainer.val_check_interval=1") == 0
    assert same_state(final(tmp_path), final(trained))


def test_another_seed_changes_it(trained: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "--train", PROMPT, "seed=4") == 0
    assert not same_state(final(tmp_path), final(trained))


def test_validate_test_and_export_know_the_step_of_their_checkpoint(trained: Path, tmp_path: Path) -> None:
    resume = f"resume={trained}/toy/run/ckpts/last.ckpt"
    for action in ("--validate", "--test", "--export"):
        assert run(tmp_path, action, PROMPT, resume) == 0
    assert (tmp_path / "toy/run/save/it6-test/0.png").is_file()
    exported = np.load(tmp_path / "toy/run/save/it6-export/value.npy")
    assert np.array_equal(exported, final(trained)["state_dict"]["geometry.value"].numpy())


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("TOY_AT", "4:full")
    assert run(tmp_path, "--train", PROMPT) == 2
    err = capsys.readouterr().err
    last = tmp_path / "toy/run/ckpts/last.ckpt"
    assert len(err.splitlines()) == 1 and "No space left on device" in err and str(last) in err
    assert torch.load(last, weights_only=True)["global_step"] == 3
    assert not list(last.parent.glob("*.part"))


def test_a_checkpoint_is_the_old_one_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "a.ckpt"
    io.save_checkpoint({"state_dict": {}, "epoch": 0, "global_step": 1}, path)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(UserError, match=f"last good checkpoint is {path}"):
        io.save_checkpoint({"state_dict": {}, "epoch": 0, "global_step": 2}, path)
    assert io.load_checkpoint(path)["global_step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


def test_the_copy_in_memory_does_not_follow_training() -> None:
    io, weight = AtomicCheckpointIO(), torch.ones(2)
    io.save_checkpoint({"state_dict": {"w": weight}, "moments": [weight]}, io.MEMORY)
    weight.fill_(5.0)
    assert io.copy is not None
    assert io.copy["state_dict"]["w"].tolist() == [1.0, 1.0] and io.copy["moments"][0].tolist() == [1.0, 1.0]


def test_a_second_signal_stops_at_once_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with SafeStop(AtomicCheckpointIO(), "unused", {}) as stop:
        with pytest.raises(Interrupted):  # not in training
            os.kill(os.getpid(), signal.SIGINT)
        stop._training = True
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_run_resumes_to_its_test(trained: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "--train", PROMPT, f"resume={trained}/toy/run/ckpts/last.ckpt") == 0
    shown = json.loads((tmp_path / "toy/run/save/value.json").read_text())
    assert torch.equal(torch.tensor(shown), final(trained)["state_dict"]["geometry.value"])


class _Trainer:
    max_steps, global_step, progress_bar_metrics = 3, 0, {"level": 2.0, "sigma": 0.123456}


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_in_a_log_and_in_a_terminal(terminal: bool, capsys: Any) -> None:
    line, trainer = ProgressLine(every=0.0), _Trainer()
    line.terminal = terminal
    line.on_train_start(trainer, None)
    for trainer.global_step in (1, 2, 3):
        line._shown = 0.0
        line.on_train_batch_end(trainer, None, None, None, 0)
    out = capsys.readouterr().out
    assert "step 2/3 · level 2 · sigma 0.1235 · 0:00 left" in out
    assert (out.count("\r"), out.count("\n")) == ((3, 1) if terminal else (0, 3))


class _Saver(SaverMixin):
    pass


def test_pictures_hold_the_values_given(tmp_path: Path) -> None:
    saver = _Saver()
    saver.set_save_dir(str(tmp_path))
    img = torch.tensor([[[0.0, 0.5, 1.0], [2.0, -1.0, 0.25]]])  # one row, two pixels
    pixels = imageio.imread(saver.save_rgb_image("a/rgb.png", img))
    assert pixels.tolist() == [[[0, 128, 255], [255, 0, 64]]]
    chw = imageio.imread(saver.save_rgb_image("chw.png", img.permute(2, 0, 1), data_format="CHW"))
    assert np.array_equal(chw, pixels)
    grey = imageio.imread(saver.save_grayscale_image("g.png", torch.tensor([[1.0, 2.0, 3.0]]), cmap=None))
    assert grey[0, :, 0].tolist() == [0, 128, 255]
    jet = imageio.imread(saver.save_grayscale_image("j.png", torch.tensor([[0.0, 0.25, 0.5, 0.75, 1.0]])))
    assert jet[0].argmax(-1)[[1, 3]].tolist() == [2, 0] and jet[0, 2, 1] == 255  # blue, green, red


def test_a_video_that_could_not_be_written_whole_is_refused(tmp_path: Path) -> None:
    saver = _Saver()
    saver.set_save_dir(str(tmp_path))
    for i in range(2):
        saver.save_rgb_image(f"frames/{i}.png", torch.rand(16, 16, 3))
    (tmp_path / "full.mp4.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"full.mp4 holds 0 of 2 frames; free space"):
        saver.save_img_sequence("full", "frames", r"(\d+)\.png")


def test_grid_lays_out_rows_and_columns(tmp_path: Path) -> None:
    saver = _Saver()
    saver.set_save_dir(str(tmp_path))
    one = {"type": "rgb", "img": torch.ones(4, 6, 3), "kwargs": {"data_format": "HWC"}}
    zero = {"type": "grayscale", "img": torch.zeros(2, 3), "kwargs": {"cmap": None, "data_range": (0, 1)}}
    grid = imageio.imread(saver.save_image_grid("grid.png", [[one, zero], [zero]]))
    assert grid.shape == (6, 12, 3)
    assert grid[:4, :6].min() == 255 and grid[:4, 6:].max() == 0 and grid[4:].max() == 0


def test_mesh_keeps_vertices_faces_and_colours(tmp_path: Path) -> None:
    import trimesh

    saver = _Saver()
    saver.set_save_dir(str(tmp_path))
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    for name in ("m.glb", "m.obj", "m.ply"):
        path = saver.save_mesh(name, vertices, faces, v_rgb=torch.eye(4, 3))
        mesh: Any = trimesh.load(path, force="mesh", process=False)
        colours = mesh.visual.vertex_colors[:, :3] / 255 if name != "m.glb" else Glb(Path(path)).attribute("COLOR_0")
        assert np.allclose(mesh.vertices, vertices) and mesh.volume == pytest.approx(1 / 6)
        assert (colours == torch.eye(4, 3).numpy()).all()  # 0 and 1 are the same in sRGB and linear
