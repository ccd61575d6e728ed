"""A comparison of few runs: what it claims, and what it says that it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pullback import cli
from pullback.evaluate.compare import judge, summary
from pullback.evaluate.compare.report.table import wilson


def rows(values: list[float], status: str = "done") -> list[dict[str, Any]]:
    return [{"prompt": "a", "seed": i, "status": status, "measures": {"right": v}} for i, v in enumerate(values)]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_runs_that_all_agree_have_wilsons_interval(value: float) -> None:
    (entry,) = summary.averages("m", rows([value] * 8))
    hits = round(8 * value)
    assert (entry["mean"], entry["low"], entry["high"]) == (value, *wilson(hits, 8))
    assert entry["high"] - entry["low"] > 0.3


def test_runs_that_differ_have_the_bootstraps() -> None:
    (entry,) = summary.averages("m", rows([0.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    assert 0 < entry["low"] < entry["mean"] < entry["high"] == 1.0


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_run_that_diverged_is_not_right(status: str) -> None:
    row = {"status": status, "measures": {"right": 1.0, "psnr": 20.0}}
    assert judge.settled(row)["measures"] == {"right": 0.0, "psnr": 20.0} and row["measures"]["right"] == 1.0
    done = {"status": "done", "measures": {"right": 1.0}}
    assert judge.settled(done) is done and judge.settled({"status": status, "measures": {}})["measures"] == {}


def lacks(studio: bool, clip: Path | None, seeds: int, *found: str) -> str:
    return " ".join(summary.lacking([{"measure": n} for n in found], judge.Judging(studio, clip, ("a",)), seeds))


def test_measures_that_nobody_has_say_what_they_need() -> None:
    told = lacks(True, None, 1, "right", "psnr", "janus", "second_front", "agreement")
    assert "Not measured: CLIP score, CLIP R-precision, CLIP-IQA; needs --clip FOLDER." in told
    assert "KID to the model's pictures; needs three seeds" in told and "Diversity over seeds; needs two seeds" in told
    assert "Right" not in told and "Front/back" not in told
    told = lacks(False, None, 4)
    assert "Right object, PSNR to the nearest object; needs prompts of the shipped model's world" in told
    assert "KID to the model's pictures, Diversity over seeds, Front/back" in told and "seeds of a prompt" not in told
    assert lacks(True, Path("clip"), 4, *(m.name for m in summary.MEASURES)) == ""


def test_clip_is_looked_at_before_any_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["compare", "--prompts", "a red cube", "--methods", "sds", "--clip", str(tmp_path / "none")]
    assert cli.main([*words, "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "`--clip`" in line and str(tmp_path / "none") in line and not out.exists()


def test_a_dry_run_says_what_it_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--prompts", "a red cube", "--methods", "sds,pullback", "--dry-run", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert "How long it takes is not known yet: two short runs of each method, of lengths 4 and 8, come first" in told
    assert "0.0 hours" not in told and "Not counted: short runs, --tune" in told
