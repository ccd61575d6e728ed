"""Faults that users met with folders: two runs at once, a run's folder that was moved, two evaluations at once."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import host_toy
import pytest
from filelock import FileLock
from omegaconf import OmegaConf
from pullback.errors import UserError
from pullback.evaluate.campaign import Results
from pullback.host import folders, launch
from pullback.host.config import schema

TRAIN = ("--train", "system.prompt=a cube", "trainer.max_steps=1", "checkpoint.every_n_train_steps=1")


def run(root: Path, *words: str) -> int:
    root.mkdir(parents=True, exist_ok=True)
    (root / "config.yaml").write_text(host_toy.CONFIG.format(root=root / "out"))
    return launch.main(["--config", str(root / "config.yaml"), *words])


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(schema.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return schema.datetime(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(schema, "datetime", Clock)


def test_runs_that_start_in_one_second_have_folders_of_their_own(tmp_path: Path, one_second: None) -> None:
    for value in (1, 2, 3):
        assert run(tmp_path, *TRAIN, "use_timestamp=true", f"data.n_test_views={value}") == 0
    made = [tmp_path / "out/toy" / f"run@20260102-030405{end}" for end in ("", "-2", "-3")]
    assert sorted((tmp_path / "out/toy").iterdir()) == made
    for value, folder in enumerate(made, 1):
        parsed: Any = OmegaConf.load(folder / "configs" / "parsed.yaml")
        assert parsed.data.n_test_views == value and Path(parsed.trial_dir) == folder
        # the folder's own config leads to the folder again
        words = ["--config", str(folder / "configs" / "parsed.yaml"), "--test", f"resume={folder}/ckpts/last.ckpt"]
        assert launch.main(words) == 0
    assert sorted((tmp_path / "out/toy").iterdir()) == made


def test_a_hundred_claims_of_one_name_at_once_are_a_hundred_folders(tmp_path: Path) -> None:
    made: list[str] = []
    start = threading.Barrier(20)

    def claim() -> None:
        start.wait()
        made.extend(folders.make_new(str(tmp_path / "a" / "run")) for _ in range(5))

    threads = [threading.Thread(target=claim) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 100 and all(Path(folder).is_dir() for folder in made)


HOLD = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); input()"


def test_the_folder_of_a_live_run_is_refused_and_that_of_a_dead_one_is_not(tmp_path: Path, capsys: Any) -> None:
    assert run(tmp_path, *TRAIN, "tag=before") == 0
    capsys.readouterr()
    weights = f"system.weights={tmp_path}/out/toy/before/ckpts/last.ckpt"
    folder = tmp_path / "out/toy/run"
    folder.mkdir(parents=True)
    command = [sys.executable, "-c", HOLD, str(folder / folders.LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert run(tmp_path, *TRAIN) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"another process is writing to {folder}" in line and "`tag`" in line
        assert {p.name for p in folder.iterdir()} == {folders.LOCK}
        assert run(tmp_path, "--test", "system.prompt=a cube", weights) == 0  # it may be looked at
        other.kill()
    assert run(tmp_path, *TRAIN) == 0
    assert run(tmp_path, *TRAIN, f"resume={folder}/ckpts/last.ckpt") == 0  # its lock was given back


def test_a_file_system_without_locks_still_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock; use SoftFileLock instead")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    assert run(tmp_path, *TRAIN) == 0


def test_what_a_moved_run_makes_lies_next_to_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(tmp_path / "here", *TRAIN, "exp_root_dir=outputs") == 0
    moved = tmp_path / "there" / "renamed"
    shutil.move(tmp_path / "outputs/toy/run", moved)
    config, resume = str(moved / "configs" / "parsed.yaml"), f"resume={moved}/ckpts/last.ckpt"
    for action in ("--test", "--export"):
        assert launch.main(["--config", config, action, resume]) == 0
    assert (moved / "save/it1-test/0.png").is_file() and (moved / "save/it1-export/value.npy").is_file()
    assert launch.main(["--config", config, "--train", resume, "trainer.max_steps=2"]) == 0
    assert (moved / "ckpts/epoch=0-step=2.ckpt").is_file() and not list((tmp_path / "outputs").rglob("*.*"))
    # said where they go elsewhere: by a name on the command line, or with another config
    with caplog.at_level("INFO", logger="pullback"):
        assert launch.main(["--config", config, "--test", resume, "tag=other"]) == 0
        assert run(tmp_path / "here", "--test", "system.prompt=a cube", resume) == 0
    said = [r.getMessage() for r in caplog.records if "which is not the checkpoint's folder" in r.getMessage()]
    assert len(said) == 2 and "outputs/toy/other" in said[0]
    assert (tmp_path / "outputs/toy/other/save/it2-test/0.png").is_file()


def test_two_evaluations_in_one_folder(tmp_path: Path) -> None:
    results = Results(tmp_path / "out" / "state.json", ("key",)).claimed()
    again = Results(tmp_path / "out" / "state.json", ("key",)).claimed()  # of one process
    script = (
        "import sys, pathlib; from pullback.errors import UserError; from pullback.evaluate.campaign import Results\n"
        "try: Results(pathlib.Path(sys.argv[1]), ('key',)).claimed()\n"
        "except UserError as error: print(error)"
    )
    command = [sys.executable, "-c", script, str(results.file)]
    said = subprocess.run(command, capture_output=True, text=True)
    assert f"another process is writing to {tmp_path / 'out'}" in said.stdout and "--out" in said.stdout, said
    del results, again
    said = subprocess.run(command, capture_output=True, text=True)
    assert (said.stdout, said.returncode) == ("", 0), said


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to the output folder"):
        folders.make_new(str(tmp_path / "file" / "run"))
