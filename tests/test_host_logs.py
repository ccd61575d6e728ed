"""Logs that the disk refuses cost no step, and a resumed run makes the validation that its end came before."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import host_toy
import pytest
import torch
from pullback.host import launch, register
from pullback.host.quiet import quiet_threads
from pullback.host.training.logs import Csv, LearningRate, TensorBoard


@register("toy-system-with-pictures")
class WithPictures(host_toy.ToySystem):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        picture = self.geometry.value.sigmoid().reshape(1, -1, 1).expand(4, 4, 3)
        self.save_rgb_image(f"it{self.true_global_step}-val.png", picture)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        (rates,) = (callback.lrs for callback in self.trainer.callbacks if isinstance(callback, LearningRate))  # type: ignore
        KEPT.append(max(map(len, rates.values())))
        return super().training_step(batch, batch_idx)


KEPT: list[int] = []


def run(root: Path, *words: str) -> int:
    (root / "config.yaml").write_text(
        host_toy.CONFIG.format(root=root).replace("toy-system", "toy-system-with-pictures")
    )
    every = ["trainer.val_check_interval=2", "checkpoint.every_n_train_steps=1", "checkpoint.save_top_k=-1"]
    return launch.main(["--config", str(root / "config.yaml"), "--train", "system.prompt=x", *every, *words])


def pictures(top: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (top / "save").glob("*-val.png")}


def state(top: Path) -> Any:
    return torch.load(top / "ckpts" / "last.ckpt", weights_only=True)["state_dict"]["geometry.value"]


@pytest.mark.parametrize("step", [4, 5, 6])
def test_a_validation_that_a_kill_came_before_is_made(step: int, tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    top = tmp_path / "toy" / "run"
    wanted, end = pictures(top), state(top)
    assert set(wanted) == {f"it{s}-val.png" for s in (2, 4, 6)} and len(set(wanted.values())) == 3
    for later in range(step, 7):
        (top / "save" / f"it{later}-val.png").unlink(missing_ok=True)
    assert run(tmp_path, f"resume={top}/ckpts/epoch=0-step={step}.ckpt") == 0
    assert pictures(top) == wanted and torch.equal(state(top), end)


def test_one_that_is_there_or_belongs_to_another_folder_is_not(tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    top = tmp_path / "toy" / "run"
    (top / "save" / "it4-val.png").write_text("as it was")
    assert run(tmp_path, f"resume={top}/ckpts/epoch=0-step=4.ckpt") == 0
    assert pictures(top)["it4-val.png"] == b"as it was"
    assert run(tmp_path, f"resume={top}/ckpts/epoch=0-step=4.ckpt", "tag=other") == 0
    assert set(pictures(top.with_name("other"))) == {"it6-val.png"}


@pytest.mark.parametrize("log", ["tb_logs", "csv_logs"])
def test_a_log_that_cannot_be_made_is_a_warning(log: str, tmp_path: Path, capsys: Any) -> None:
    top = tmp_path / "toy" / "run"
    top.mkdir(parents=True)
    (top / log).write_text("a file in the place of its folder")
    assert run(tmp_path) == 0
    said = capsys.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if "ends here" in line]
    assert len(lines) == 1 and f"The log in {log} ends here: " in lines[0] and "the run goes on" in lines[0]
    assert set(pictures(top)) == {f"it{s}-val.png" for s in (2, 4, 6)}
    other = {"tb_logs": "csv_logs/version_0/metrics.csv", "csv_logs": "tb_logs/version_0"}[log]
    assert (top / other).exists()


@pytest.mark.parametrize(("kind", "name"), [(TensorBoard, "events.out*"), (Csv, "metrics.csv")])
def test_a_log_whose_disk_fills_up_ends_there(
    kind: Any, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = kind(str(tmp_path), name="logs")
    with quiet_threads():
        log.log_metrics({"a": 1.0}, 0)
        log.save()
        (file,) = tmp_path.rglob(name)
        kept = file.rename(tmp_path / "kept")
        file.symlink_to("/dev/full")
        for step in range(1, 40):
            log.log_metrics({"a": float(step), f"b{step}": 1.0}, step)
            log.save()
        log.finalize("success")
    said = "The log in logs ends here: No space left on device; the run goes on"
    assert caplog.messages.count(said) == 1
    assert log.refused and kept.stat().st_size > 0
    shutil.rmtree(tmp_path / "logs")
    assert os.listdir(tmp_path) == ["kept"]


def test_a_disk_that_fills_up_takes_no_row_of_before(tmp_path: Path) -> None:
    log = Csv(str(tmp_path), name="logs")
    log.log_metrics({"a": 1.0}, 0)
    log.save()
    log.log_metrics({"a": 2.0, "b": 3.0}, 1)
    log.save()  # a new column: all is written anew
    (file,) = tmp_path.rglob("metrics.csv")
    rows = file.read_text()
    assert rows.splitlines() == ["a,b,step", "1.0,,0", "2.0,3.0,1"]
    (file.parent / "metrics.csv.part").symlink_to("/dev/full")
    log.log_metrics({"c": 1.0}, 2)
    log.save()
    assert log.refused and os.listdir(file.parent) == ["metrics.csv"] and file.read_text() == rows


def test_a_step_leaves_nothing_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    KEPT.clear()
    assert run(tmp_path) == 0
    assert KEPT == [0] * 6
    assert os.environ["PL_GLOBAL_SEED"] == "3"  # glibc keeps every value that a variable has had
    header, *rows = (tmp_path / "toy/run/csv_logs/version_0/metrics.csv").read_text().splitlines()
    (at,) = (number for number, name in enumerate(header.split(",")) if name.startswith("lr-Adam"))
    assert sum(float(row.split(",")[at] or 0) == 0.05 for row in rows) == 6
