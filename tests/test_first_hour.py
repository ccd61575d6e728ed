"""What somebody meets in the first hour: what is refused and how, what a run says and leaves."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import host_toy
import pytest
from pullback.host import launch
from pullback.host.actions import to_look_at
from pullback.resources import CONFIGS

PROMPT = "system.prompt_processor.prompt=a red cube"
TRAIN = ("--train", "system.prompt=x", "trainer.max_steps=1", "checkpoint.every_n_train_steps=1")


def toy(root: Path, *words: str) -> int:
    (root / "config.yaml").write_text(host_toy.CONFIG.format(root=root / "out"))
    return launch.main(["--config", str(root / "config.yaml"), *words])


def refused(capsys: Any, *words: str) -> str:
    assert launch.main(list(words)) == 2
    out, told = capsys.readouterr()
    assert out == "" and told.startswith("error: ") and len(told.splitlines()) == 1, out + told
    return told


@pytest.mark.parametrize("action", ["--validate", "--test", "--export"])
def test_without_a_checkpoint_there_is_nothing_to_render_or_export(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    told = refused(capsys, "--config", "pullback-nerf-tiny.yaml", action)  # and the prompt is not asked for first
    assert "add resume=outputs/…/ckpts/last.ckpt" in told
    assert os.listdir(tmp_path) == []
    assert toy(tmp_path, *TRAIN) == 0
    capsys.readouterr()
    own = tmp_path / "out" / "toy" / "run"
    told = refused(capsys, "--config", str(own / "configs" / "parsed.yaml"), action)
    assert told.endswith("add resume=out/toy/run/ckpts/last.ckpt\n")  # the run's own


@pytest.mark.parametrize("name", ["pullback-image-tiny.yaml", "pullback-panorama.yaml"])
def test_pictures_have_no_mesh(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    told = refused(capsys, "--config", name, "--export", PROMPT, "resume=none.ckpt")
    assert "has no surface" in told and "--test" in told and os.listdir(tmp_path) == []


def test_a_complete_run_says_that_it_is(tmp_path: Path, capsys: Any, caplog: Any) -> None:
    with caplog.at_level("INFO", logger="pullback"):
        assert toy(tmp_path, *TRAIN) == 0
        assert "run is complete" not in caplog.text
        resume = f"resume={tmp_path}/out/toy/run/ckpts/last.ckpt"
        assert toy(tmp_path, *TRAIN, resume) == 0
        (line,) = (r.getMessage() for r in caplog.records if "run is complete" in r.getMessage())
        assert f"{tmp_path}/out/toy/run/ckpts/last.ckpt is its last step, 1" in line and "`seed`" in line
        caplog.clear()
        assert toy(tmp_path, *TRAIN, resume, "trainer.max_steps=2") == 0  # there is more to do
    assert "run is complete" not in caplog.text


def test_a_run_names_its_device_and_folder_first_and_what_to_open_last(tmp_path: Path, capsys: Any) -> None:
    assert toy(tmp_path, *TRAIN) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.search(r", on (the CPU|cuda).*; files go to " + re.escape(f"{tmp_path}/out/toy/run"), lines[0])
    own = tmp_path / "out" / "toy" / "run"
    assert lines[-3:] == ["Look at:", f"  page       {own}/page.html", f"  turntable  {own}/save/it1-test.mp4"]


def test_the_files_worth_opening_are_the_newest_of_each_kind(tmp_path: Path) -> None:
    assert to_look_at(tmp_path) == ""
    names = [
        "it9-test.mp4", "it10-test.mp4", "it10-grid.png", "it5-val.png", "it10-val.png", "it10-whole/panorama.html",
        "it10-whole/panorama.png", "it10-export/model.obj", "it10-export/model.mtl", "it10-export/texture_kd.jpg",
    ]  # fmt: skip
    for second, name in enumerate(names):
        file = tmp_path / "save" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (second, second))
    first, *lines = to_look_at(tmp_path).splitlines()
    assert first == "Look at:"
    assert [Path(line[13:]).relative_to(tmp_path / "save").as_posix() for line in lines] == [
        "it10-test.mp4", "it10-grid.png", "it10-val.png", "it10-whole/panorama.html", "it10-export/model.obj",
    ]  # fmt: skip


@pytest.mark.parametrize("stamp", ["use_timestamp=false", "use_timestamp=true"])
def test_a_run_that_is_refused_late_leaves_no_folder(stamp: str, tmp_path: Path, capsys: Any) -> None:
    assert toy(tmp_path, *TRAIN, stamp, "system.optimizer.name=Adamm") == 2  # known when the trainer asks for it
    out, told = capsys.readouterr()
    assert out == "" and "Adamm" in told and not (tmp_path / "out").exists()


def test_a_refused_run_leaves_what_was_there(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "out" / "toy" / "run").mkdir(parents=True)
    (tmp_path / "out" / "toy" / "run" / "notes.txt").touch()
    assert toy(tmp_path, *TRAIN, "system.optimizer.name=Adamm") == 2
    assert (tmp_path / "out" / "toy" / "run" / "notes.txt").is_file()
    assert toy(tmp_path, *TRAIN, "tag=b") == 0
    assert toy(tmp_path, *TRAIN, "system.optimizer.name=Adamm", "tag=c") == 2
    assert sorted(os.listdir(tmp_path / "out" / "toy")) == ["b", "run"]


@pytest.mark.parametrize("config", sorted(p.name for p in CONFIGS.glob("*.yaml")))
def test_a_shipped_config_is_found_by_its_bare_name(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    # the refusal comes after the file has been read
    assert "none is named" in refused(capsys, "--config", config, "--test")


def test_saved_commands_have_the_path_of_their_program(tmp_path: Path) -> None:
    assert toy(tmp_path, *TRAIN, "tag=it's a 'run'") == 0
    (folder,) = (tmp_path / "out" / "toy").iterdir()
    command = shlex.split((folder / "cmd.txt").read_text().splitlines()[0])
    assert Path(command[0]).is_absolute() and os.access(command[0], os.X_OK), sys.argv
    assert command[-1] == "tag=it's a 'run'"


def test_a_model_that_is_not_there_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    key = "system.prompt_processor.pretrained_model_name_or_path"
    told = refused(capsys, "--config", "pullback-nerf-tiny.yaml", "--train", PROMPT, f"{key}=/none/sd")
    assert f"`{key}`" in told or "/none/sd" in told
    assert os.listdir(tmp_path) == []
