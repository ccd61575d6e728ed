"""What a user gets wrong: exit status 2, one line on stderr that names place and remedy, no traceback, no folder."""

from __future__ import annotations

import builtins
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import host_toy
import pytest
import torch
from pullback.host import launch, run


def refused(capsys: Any, *args: str) -> str:
    """Runs a command line that must be refused; returns the sentence."""
    assert launch.main(list(args)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and len(err.splitlines()) == 1 and "Traceback" not in err, err
    return err


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(host_toy.CONFIG.format(root=tmp_path / "out"))
    return str(path)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("system.geometry.grid_siz=3", ["`system.geometry.grid_siz`", "did you mean `grid_size`?"]),
        ("system.geometry.grid_size=big", ["`system.geometry.grid_size`", "an integer", "'big'"]),
        ("data.n_test_views=0", ["`data.n_test_views` must be at least 1"]),
        ("system_type=toy-sistem", ["`system_type`", "did you mean `toy-system`"]),
        ("system_type=", ["`system_type`"]),
        ("data_type=none-such", ["`data_type`", "'none-such'"]),
        ("trainer.max_step=5", ["`trainer.max_step`", "did you mean `max_steps`"]),
        ("trainer.logger=true", ["`trainer.logger`"]),
        ("trainer.precision=7", ["`trainer` or `checkpoint`", "7"]),
        ("trainer.max_steps=-7", ["`trainer`", "-7"]),
        ("checkpoint.save_lats=true", ["`checkpoint.save_lats`", "`save_last`"]),
        ("system.optimizer.name=Adamm", ["`system.optimizer.name`", "`Adam`"]),
        ("system.optimizer.args.lr=-1", ["`system.optimizer.args`", "-1"]),
        ("system.optimizer.args.rate=1", ["unknown key `system.optimizer.args.rate`", "`lr`"]),
        ("system.optimizer.params={colour: {lr: 1}}", ["`system.optimizer.params.colour`"]),
        ("system.loggers.wandb={enable: true}", ["`system.loggers.wandb.enable`", "CSV"]),
        ("system.weights=none.ckpt", ["`system.weights`", "none.ckpt", "No such file"]),
        ("system.geometry.weights=none.ckpt", ["`system.geometry.weights`", "file.ckpt:module"]),
        ("resume=none.ckpt", ["`resume`", "none.ckpt", "No such file"]),
        ("tag=", ["`tag` must be given where `use_timestamp` is false"]),
        ("nonsense", ["`nonsense`", "key=value"]),
    ],
)
def test_values(override: str, words: list[str], config: str, capsys: Any) -> None:
    sentence = refused(capsys, "--config", config, "--train", "system.prompt=x", override)
    assert all(word in sentence for word in words), sentence


def test_missing_prompt(config: str, capsys: Any) -> None:
    assert "`system.prompt` must be given" in refused(capsys, "--config", config, "--train")


def test_nothing_is_left_behind(config: str, capsys: Any, tmp_path: Path) -> None:
    refused(capsys, "--config", config, "--train", "system.prompt=x", "data.n_test_views=0")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--train"], ["--config"]),
        (["--config", "x.yaml"], ["--train", "--export"]),
        (["--config", "x.yaml", "--train", "--test"], ["not allowed"]),
        (["--config", "x.yaml", "--train", "--gpu", "0,x"], ["--gpu", "'0,x'"]),
        (["--config", "x.yaml", "--train", "--gpu", "1,1"], ["different numbers", "'1,1'"]),
        (["--config", "none.yaml", "--train"], ["none.yaml", "No such file"]),
        (["--config", "/", "--train"], ["cannot read the config file /"]),
    ],
)
def test_command_line(args: list[str], words: list[str], capsys: Any) -> None:
    sentence = refused(capsys, *args)
    assert all(word in sentence for word in words), sentence


def test_yaml_syntax_names_the_line(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "c.yaml").write_text("name: a\nsystem:\n  prompt: a cube: red\n")
    assert "c.yaml, line 3" in refused(capsys, "--config", str(tmp_path / "c.yaml"), "--train")


def test_output_folder_that_cannot_be_made(config: str, capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    args = ["--config", config, "--train", "system.prompt=x"]
    sentence = refused(capsys, *args, f"exp_root_dir={tmp_path}/file/sub")
    assert f"{tmp_path}/file/sub" in sentence and "`exp_root_dir`" in sentence and "Not a directory" in sentence
    assert "/proc" in refused(capsys, *args, "exp_root_dir=/proc/none")


def test_files_that_are_no_checkpoint(config: str, capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    torch.save({"weights": torch.ones(1)}, tmp_path / "other.ckpt")
    torch.save({"code": run.Run}, tmp_path / "pickle.ckpt")
    for name in ("text", "other", "pickle"):
        path = f"{tmp_path}/{name}.ckpt"
        sentence = refused(capsys, "--config", config, "--train", "system.prompt=x", f"resume={path}")
        assert "`resume`" in sentence and f"{path} is not a checkpoint" in sentence


def test_checkpoint_of_another_config(config: str, capsys: Any, tmp_path: Path) -> None:
    train = ["--config", config, "--train", "trainer.max_steps=1", "checkpoint.every_n_train_steps=1"]
    assert launch.main([*train, "system.prompt=a cube"]) == 0
    resume = f"resume={tmp_path}/out/toy/run/ckpts/last.ckpt"
    sentence = refused(capsys, *train, "system.prompt=a cone", resume)
    assert "`system.prompt` is 'a cube' there and 'a cone' here" in sentence and "parsed.yaml" in sentence
    sentence = refused(capsys, *train, "system.prompt=a cube", "data.size=5", resume)
    assert "`system.geometry.size` is 4 there and 5 here" in sentence
    assert "`system.prompt`" in refused(capsys, "--config", config, "--test", "system.prompt=a cone", resume)
    sentence = refused(capsys, "--config", config, "--test", "system.prompt=a cube", "data.size=5", resume)
    assert "does not fit this config" in sentence and "geometry.value" in sentence
    assert launch.main([*train, "system.prompt=a cube", "data.n_test_views=1", resume]) == 0


def weights(config: str, folder: Path) -> str:
    """The override by which a test starts from a checkpoint's parameters, at step 0."""
    short = ["trainer.max_steps=1", "checkpoint.every_n_train_steps=1", "tag=before"]
    assert launch.main(["--config", config, "--train", "system.prompt=x", *short]) == 0
    return f"system.weights={folder}/out/toy/before/ckpts/last.ckpt"


def test_missing_package_names_the_command(
    config: str, capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained = weights(config, tmp_path)
    capsys.readouterr()
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "imageio":
            raise ModuleNotFoundError("No module named 'imageio'", name="imageio")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    sentence = refused(capsys, "--config", config, "--test", "system.prompt=x", trained)
    assert "'imageio' is missing" in sentence and 'pip install "threestudio-pullback[host,models]"' in sentence


def test_disk_full_while_a_picture_is_saved(
    config: str, capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained = weights(config, tmp_path)
    capsys.readouterr()

    def refuse(self: Any, filename: str, *_: Any, **__: Any) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filename)

    monkeypatch.setattr(host_toy.ToySystem, "save_rgb_image", refuse)
    sentence = refused(capsys, "--config", config, "--test", "system.prompt=x", trained)
    assert "No space left on device" in sentence and "it0-test/0.png" in sentence


def test_verbose_adds_the_traceback(config: str, capsys: Any) -> None:
    assert launch.main(["--config", config, "--train", "--verbose", "sed=1"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err and err.splitlines()[-1].startswith("error: unknown key `sed`")


def test_the_program_itself_from_another_folder(tmp_path: Path) -> None:
    program = Path(__file__).resolve().parent.parent / "launch.py"
    command = [sys.executable, str(program), "--config", "none.yaml", "--train"]
    out = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (out.returncode, out.stdout) == (2, "")
    assert out.stderr.splitlines() == [
        "error: cannot read the config file none.yaml: No such file or directory; give a config's path, or one of the "
        "shipped: pullback-image-tiny.yaml, pullback-image.yaml, pullback-nerf-mvdream.yaml, "
        "pullback-nerf-tiny-mv.yaml, pullback-nerf-tiny.yaml, pullback-nerf.yaml, "
        "pullback-panorama-tiny.yaml, pullback-panorama.yaml"
    ]


def test_the_program_without_its_packages() -> None:
    program = Path(__file__).resolve().parent.parent / "launch.py"
    code = f"import runpy, sys; sys.modules['omegaconf'] = None; runpy.run_path({str(program)!r}, run_name='__main__')"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.returncode == 2 and len(out.stderr.splitlines()) == 1
    assert "'omegaconf' is missing" in out.stderr and "pip install omegaconf" in out.stderr
