"""Bad values in every block of pullback-nerf-tiny.yaml: exit status 2, one line that names place and remedy, no run."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pullback.adapters.systems.sampling import PullbackSystem
from pullback.host import explain, launch, quiet
from test_system import arguments, checkpoint, folder, same
from tiny_pipeline import build


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "sd"
    build(path)
    return path


def refused(capsys: Any, *args: str) -> str:
    """Runs a command line that must be refused; returns the sentence."""
    assert launch.main(list(args)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and len(err.splitlines()) == 1 and "Traceback" not in err, err
    return err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        # not finite, wherever it stands
        ("data.camera_perturb=nan", ["`data.camera_perturb` must be a finite number"]),
        ("data.camera_distance_range=[1,inf]", ["`data.camera_distance_range[1]` must be a finite number"]),
        ("system.geometry.density_blob_scale=.inf", ["`system.geometry.density_blob_scale`", "finite"]),
        ("system.background.base=[.nan,0,0]", ["`system.background.base[0]`", "finite"]),
        ("system.guidance.guidance_scale=nan", ["`system.guidance.guidance_scale`", "finite"]),
        ("system.guidance.sigma_min=.nan", ["`system.guidance.sigma_min`", "finite"]),
        ("system.optimizer.params.geometry.lr=.nan", ["`system.optimizer.params.geometry.lr`", "finite"]),
        # the run as a whole
        ("seed=-1", ["`seed`", "between 0 and 4294967295"]),
        ("seed=4294967296", ["`seed`", "between 0 and 4294967295"]),
        ("name=", ["`name` is empty"]),
        ("name=../x", ["`name`", "`exp_root_dir`"]),
        ("tag=..", ["tag", "`exp_root_dir`"]),
        ("exp_root_dir=", ["`exp_root_dir` is empty"]),
        ("system.geometry=[1]", ["`system.geometry`", "'[1]'"]),
        ("system.prompt_processor.prompt=a ${ cube", ["`system.prompt_processor.prompt`", "${", "leave it out"]),
        # cameras
        ("data.camera_perturb=-1", ["`data.camera_perturb` must be at least 0"]),
        ("data.eval_fovy_deg=180", ["`data.eval_fovy_deg` must be below 180"]),
        ("data.fovy_range=[20,180]", ["`data.fovy_range` must be below 180"]),
        # the scene
        ("system.geometry.n_feature_dims=0", ["`system.geometry.n_feature_dims` is 0", "set it to 3"]),
        ("system.geometry.isosurface_chunk=-1", ["`system.geometry.isosurface_chunk` must be at least 0"]),
        ("system.background.base=[1,2]", ["`system.background.base`", "three numbers"]),
        ("system.background.gradient_x=3", ["`system.background.gradient_x`", "three numbers"]),
        ("system.background.gradient_y=[a,b,c]", ["`system.background.gradient_y`", "three numbers"]),
        ("system.background.gradient_z=null", ["`system.background.gradient_z`", "three numbers"]),
        ("system.exporter.save_name=../x", ["`system.exporter.save_name`", "without a folder"]),
        # sampling
        ("system.guidance.levels=0", ["`system.guidance.levels` must be at least 1"]),
        ("system.guidance.rho=0.5", ["`system.guidance.rho` must be at least 1"]),
        ("system.guidance.sigma_min=abc", ["`system.guidance.sigma_min` must be a number", "'abc'"]),
        ("system.guidance.sigma_max=[1,2]", ["`system.guidance.sigma_max` must be a number"]),
        ("system.guidance.constraint=projection", ["`system.guidance.noise` must be independent"]),
        ("system.guidance.guidance_policy=often", ["`system.guidance.guidance_policy` must be one of", "interval"]),
        ("system.guidance.guidance_policy={type: interval, sigma_low: 3, sigma_high: 1}", ["guidance_policy", "low 3"]),
        ("system.guidance.guidance_policy={type: adaptive, threshold: 2}", ["guidance_policy", "threshold in (0, 1]"]),
        ("system.guidance.order=multi", ["`system.guidance.order` must be one of 1, 2, multistep"]),
        ("system.guidance.order=true", ["`system.guidance.order` must be one of 1, 2, multistep"]),
        ("system.guidance.order=multistep", ["`system.guidance.order` must be 1 or 2 where constraint is repaint"]),
        ("system.guidance.vae=3", ["`system.guidance.vae` must be the folder"]),
        ("system.guidance.vae=nowhere/taesd", ["`system.guidance.vae` is 'nowhere/taesd', which is no folder"]),
        ("system.guidance.settle_sigma=0", ["`system.guidance.settle_sigma` must be above 0"]),
        # the optimiser, group by group
        ("system.optimizer.nam=Adam", ["`system.optimizer.nam`", "did you mean `name`?"]),
        ("system.optimizer.name=LBFGS", ["`system.optimizer.name`", "`Adam`"]),
        ("system.optimizer.name=Optimizer", ["`system.optimizer.name`", "`Adam`"]),
        ("system.optimizer.args=3", ["`system.optimizer.args` should be a block"]),
        ("system.optimizer.args.betas=[0.9]", ["`system.optimizer.args`"]),
        ("system.optimizer.params=3", ["`system.optimizer.params` should be a block"]),
        ("system.optimizer.params.geometry=3", ["`system.optimizer.params.geometry` should be a block"]),
        ("system.optimizer.params.geometry.lr=-1", ["`system.optimizer.params.geometry`", "-1"]),
        ("system.optimizer.params.geometry.lr=abc", ["`system.optimizer.params.geometry`"]),
        ("system.optimizer.params.geometry.lrr=1", ["`system.optimizer.params.geometry.lrr`", "`lr`"]),
        ("system.scheduler={name: Counter}", ["`system.scheduler.name`", "`ExponentialLR`"]),
        # Lightning's keywords
        ("trainer.devices=0", ["`trainer.devices` must be a number of devices, at least 1"]),
        ("trainer.val_check_interval=0", ["`trainer.val_check_interval` must be above 0", "limit_val_batches"]),
        ("trainer.check_val_every_n_epoch=0", ["`trainer.check_val_every_n_epoch` must be above 0"]),
        ("trainer.log_every_n_steps=abc", ["`trainer.log_every_n_steps` should be an integer", "'abc'"]),
        ("trainer.num_sanity_val_steps=abc", ["`trainer.num_sanity_val_steps` should be an integer"]),
        ("trainer.max_steps=1.5", ["`trainer.max_steps` should be an integer", "1.5"]),
        ("trainer.enable_progress_bar=abc", ["`trainer.enable_progress_bar` should be true or false"]),
    ],
)
def test_values(override: str, words: list[str], model: Path, tmp_path: Path, capsys: Any) -> None:
    sentence = refused(capsys, *arguments(model, tmp_path, override))
    assert all(word in sentence for word in words), sentence


def test_projection_has_noise_of_its_own(model: Path, tmp_path: Path, capsys: Any) -> None:
    projection = ("system.guidance.constraint=projection", "system.guidance.noise=independent")
    sentence = refused(capsys, *arguments(model, tmp_path, *projection, "system.guidance.settle_sigma=5"))
    assert "`system.guidance.settle_sigma` must be null" in sentence


def test_multistep_follows_noise_that_is_kept(model: Path, tmp_path: Path, capsys: Any) -> None:
    more = ["system.guidance.order=multistep", "system.guidance.constraint=none"]  # the config's noise is fresh
    assert "`system.guidance.noise` must be kept" in refused(capsys, *arguments(model, tmp_path, *more))


def test_a_far_off_key_gets_the_known_ones_instead_of_a_guess(model: Path, tmp_path: Path, capsys: Any) -> None:
    sentence = refused(capsys, *arguments(model, tmp_path, "bogus=1"))
    assert "`bogus`; known are " in sentence and "`exp_root_dir`" in sentence


def test_a_schedule_that_is_none_names_the_model(model: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(model, tmp_path / "sd")
    file = tmp_path / "sd" / "scheduler" / "scheduler_config.json"
    file.write_text(file.read_text().replace('"beta_end": 0.012', '"beta_end": 0.0').replace("0.00085", "0.0"))
    sentence = refused(capsys, *arguments(tmp_path / "sd", tmp_path / "out"))
    assert "`system.guidance.pretrained_model_name_or_path`" in sentence and str(file) in sentence


def test_an_empty_config_file_says_what_it_needs(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty.yaml").touch()
    assert "`data_type` must be given" in refused(capsys, "--config", str(tmp_path / "empty.yaml"), "--train")


def test_more_memory_than_there_is(model: Path, tmp_path: Path, capsys: Any) -> None:
    assert launch.main(arguments(model, tmp_path, "system.geometry.grid_size=[100000,100000,100000]")) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "out of memory" in err and "`system.geometry`" in err


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert launch.main(arguments(model, out)) == 0
    return out


def altered(trained: Path, tmp_path: Path, change: Any) -> str:
    """A copy of the checkpoint of step 3, changed in place by `change`."""
    content = checkpoint(trained, "epoch=0-step=3.ckpt")
    change(content)
    torch.save(content, tmp_path / "altered.ckpt")
    return f"resume={tmp_path}/altered.ckpt"


def test_checkpoints_that_cannot_be_gone_on_from(model: Path, trained: Path, tmp_path: Path, capsys: Any) -> None:
    capsys.readouterr()
    weights_only = altered(trained, tmp_path, lambda c: c.pop("optimizer_states"))
    assert "holds parameters only" in refused(capsys, *arguments(model, tmp_path, weights_only))
    other = altered(trained, tmp_path, lambda c: c.pop("pullback"))
    sentence = refused(capsys, *arguments(model, tmp_path, other))
    assert "another system" in sentence and "system.weights" in sentence
    levels = f"resume={folder(trained)}/ckpts/last.ckpt"
    sentence = refused(capsys, *arguments(model, tmp_path, levels, "system.guidance.levels=5"))
    assert "`system.guidance.levels` is 3 there and 5 here" in sentence


def test_the_remedy_for_a_checkpoint_without_state_works(model: Path, trained: Path, tmp_path: Path) -> None:
    weights = f"system.weights={folder(trained)}/ckpts/last.ckpt"
    assert launch.main(arguments(model, tmp_path, weights, "system.guidance.levels=1")) == 0
    assert checkpoint(tmp_path)["global_step"] == 2


def test_a_nan_is_not_shown_as_a_picture(model: Path, trained: Path, tmp_path: Path, capsys: Any) -> None:
    broken = altered(trained, tmp_path, lambda c: c["state_dict"]["geometry.grid"].fill_(float("nan")))
    capsys.readouterr()
    for action in ("--test", "--validate"):
        args = arguments(model, tmp_path, broken)
        args[args.index("--train")] = action
        assert launch.main(args) == 1
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1 and "step 3" in err and "evaluation view 0" in err


def test_a_nan_left_in_the_parameters_is_never_saved(
    model: Path, trained: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PullbackSystem.training_step

    def breaks_a_voxel(self: Any, batch: Any, batch_idx: int) -> None:
        whole(self, batch, batch_idx)
        if self.global_step == 3:
            with torch.no_grad():
                self.geometry.grid[0, 0, 3, 3, 3] = float("nan")

    monkeypatch.setattr(PullbackSystem, "training_step", breaks_a_voxel)
    assert launch.main(arguments(model, tmp_path)) == 1
    err = capsys.readouterr().err
    assert "after step 3" in err and "level 1" in err and "`geometry.grid` has a NaN" in err
    good = checkpoint(trained, "epoch=0-step=2.ckpt")
    assert same(checkpoint(tmp_path)["state_dict"], good["state_dict"])
    monkeypatch.undo()
    resume = f"resume={folder(tmp_path)}/ckpts/last.ckpt"
    assert launch.main(arguments(model, tmp_path, resume)) == 0
    assert same(checkpoint(tmp_path)["state_dict"], checkpoint(trained)["state_dict"])


def test_a_writer_thread_on_a_full_disk_is_quiet_but_other_faults_are_not(capsys: Any) -> None:
    def fail(error: Exception) -> str:
        def run() -> None:
            raise error

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return capsys.readouterr().err

    before = threading.excepthook
    threading.excepthook = threading.__excepthook__
    try:
        with quiet.quiet_threads():
            assert fail(OSError(28, "No space left on device")) == ""
            assert "KeyError" in fail(KeyError("x"))
        assert threading.excepthook is threading.__excepthook__
    finally:
        threading.excepthook = before


def test_a_full_disk_names_the_file_that_was_written() -> None:
    told = explain.explain(OSError(28, "No space left on device", "source.yaml", None, "target.yaml"))
    assert told is not None and "cannot write target.yaml" in told[0] and told[1] == 2


def test_a_package_only_the_end_needs_is_missed_at_the_start(
    model: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "imageio_ffmpeg" else real(name, *a)
    )
    sentence = refused(capsys, *arguments(model, tmp_path))
    assert "'imageio_ffmpeg' is missing" in sentence and 'pip install "threestudio-pullback[host,models]"' in sentence
    assert not list(folder(tmp_path).rglob("*.ckpt"))


def test_ctrl_c_while_it_still_starts() -> None:
    child = subprocess.Popen([sys.executable, "launch.py", "--help"], stderr=subprocess.PIPE, text=True)
    maps = Path(f"/proc/{child.pid}/maps")
    deadline = time.monotonic() + 60
    while "libtorch" not in maps.read_text() and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130 and err.splitlines() == ["error: stopped by SIGINT"], err
