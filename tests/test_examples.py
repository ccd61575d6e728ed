"""The examples do what they say, and so does the code in docs/extending.md, as it is written there."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pullback
import pytest
import torch
from PIL import Image
from pullback import diffreps, noise
from pullback.constraints import CONSTRAINTS

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DOCUMENT = ROOT / "docs" / "extending.md"
sys.path.insert(0, str(ROOT / "examples"))


def run(name: str, *arguments: str) -> str:
    """What an example prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        importlib.import_module(name).main(list(arguments))
    return said.getvalue()


def misses(said: str) -> list[float]:
    """How far each sample is from the nearest of what the prior knows."""
    return [float(rms) for rms in re.findall(r"rms ([\d.]+)", said)]


def read(file: Path) -> np.ndarray:
    """[H,W,3] in [0, 1]."""
    return np.asarray(Image.open(file).convert("RGB")) / 255


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 60


def test_an_image_from_text_is_the_same_finer(tmp_path: Path) -> None:
    run("image_toy", "--levels", "6", "--prompt", "a green sphere", "--out", str(tmp_path / "a.png"))
    picture = read(tmp_path / "a.png")
    assert picture.shape == (256, 512, 3)
    seen, finer = picture[:, :256], picture[:, 256:]
    red, green, blue = seen[96:160, 96:160].mean((0, 1))
    assert green > red + 0.2 and green > blue + 0.2
    # in blocks of four, the pixels of the model
    mean = finer.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(mean - seen[::4, ::4]).mean() < 0.02


@pytest.mark.parametrize(("seeds", "kinds"), [(1, 1), pytest.param(4, 2, marks=pytest.mark.slow)])
def test_a_nerf_is_one_of_the_objects_and_not_always_the_same(seeds: int, kinds: int, tmp_path: Path) -> None:
    said = run("nerf_toy", "--seeds", str(seeds), "--out", str(tmp_path / "a.png"))
    assert len(misses(said)) == seeds and max(misses(said)) < 0.08  # two objects are 0.25 apart or more
    assert len(set(re.findall(r": a ([a-z ]+),", said))) >= kinds
    assert read(tmp_path / "a.png").shape == (seeds * 96, 576, 3)


def test_a_panorama_is_one_of_the_landscapes_and_has_its_files(tmp_path: Path) -> None:
    said = run("panorama_toy", "--out", str(tmp_path))
    assert max(misses(said)) < 0.05
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"panorama.png", "panorama.mp4", "panorama.html", "cubemap.png", "cubemap"}
    sky, ground = read(tmp_path / "panorama.png")[[20, -20]].mean(1)
    day, grass = said.startswith("day"), "grass" in said.split(",")[0]
    assert (sky[2] > sky[0] + 0.3) == day and (ground.min() < 0.5) == grass


def test_a_drawing_of_splines_is_nearer_to_one_drawing_than_to_any_other(tmp_path: Path) -> None:
    said = run("spline_toy", "--seeds", "1", "--out", str(tmp_path / "a.png"))
    assert max(misses(said)) < 0.2  # two drawings are 0.5 apart or more
    assert read(tmp_path / "a.png").shape == (96, 4 * 96, 3)


def test_a_renderer_and_a_denoiser_of_ones_own_as_documented(tmp_path: Path) -> None:
    section = DOCUMENT.read_text().split("## Your renderer and denoiser, without any framework")[1]
    code, shown = re.findall(r"^```\w*\n(.*?)^```", section, flags=re.M | re.S)[:2]
    space: dict[str, object] = {}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, str(DOCUMENT), "exec"), space)
    assert max(misses(said.getvalue())) < 0.05  # two pictures are 0.47 apart or more
    found = re.findall(r"drawing (\d)", said.getvalue())
    assert len(found) == 4 and len(set(found)) >= 3
    assert [line.split(", rms")[0] for line in shown.splitlines()] == [
        line.split(", rms")[0] for line in said.getvalue().splitlines()
    ]
    drawings = space["known"]
    apart = [(a - b).square().mean().sqrt().item() for i, a in enumerate(drawings) for b in drawings[:i]]  # type: ignore
    assert round(min(apart), 2) == 0.47


def test_the_documents_constraint_and_noise_go_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    for table in (CONSTRAINTS, noise.COUPLINGS):
        monkeypatch.setattr(table, "_parts", dict(table))
    made: dict[str, Any] = {"__name__": "document"}
    for block in blocks:
        if "@CONSTRAINTS.register(" in block or "@COUPLINGS.register(" in block:
            exec(compile(block, str(DOCUMENT), "exec", dont_inherit=True), made)
    choices = {"type": "churn", "share": 0.3}, {"type": "mixed", "share": 0.7}
    ends = []
    for constraint, coupling in (choices, (made["Churn"](0.3), made["Mixed"](0.7)), ("churn", "mixed")):
        rep = diffreps.Pixels(2, 1, 4, 4)
        pullback.sample(
            rep, [0, 1], lambda noisy, sigma, views: noisy / 2, pullback.karras_sigmas(3, 0.1, 5.0), noise=coupling,
            constraint=constraint, generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        ends.append(rep.values.detach())
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
