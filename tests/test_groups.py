"""Groups of pictures by name: the exact object of all its views, and whether each view is of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from pullback.evaluate.studio import around, groups, model
from pullback.evaluate.studio import field as studio
from pullback.evaluate.studio.around import FourSided, Marked
from pullback.evaluate.studio.world import StudioObject
from pullback.models.joint import grouped
from tiny_pipeline import build_multi_view

NOISE = 0.05  # rms, as much as a picture of 26 dB has


@pytest.fixture(scope="module")
def bank() -> groups.GroupBank:
    return groups.GroupBank(around.group_of(torch.tensor([20.0]), torch.tensor([12.0])), 32)


@pytest.fixture(scope="module")
def c2w() -> torch.Tensor:
    return around.group_of(torch.tensor([20.0]), torch.tensor([12.0]))


def noisy(pictures: torch.Tensor) -> torch.Tensor:
    return pictures + NOISE * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("plain", [False, True])
def test_the_squares_are_those_of_the_pictures(plain: bool, bank: groups.GroupBank, c2w: torch.Tensor):
    pictures = noisy(around.render(StudioObject("cone", "red", "blue"), c2w, 32, plain))
    squares = bank.squares(pictures, "cube", bank.backdrops[plain])
    for index in (0, 17, 100, 500):
        own = around.render(bank.objects["cube"][index], c2w, 32, plain)
        assert torch.allclose(squares[index], (pictures - own).square().mean((1, 2, 3)), atol=1e-5)


def test_every_kind_of_object_is_named_before_either_backdrop(bank: groups.GroupBank, c2w: torch.Tensor):
    rng = random.Random(1)
    for i in range(12):
        obj = around.random_object(rng)
        match = bank.name(noisy(around.render(obj, c2w, 32, plain=bool(i % 2))))
        assert match.obj == obj and match.one and match.psnr == pytest.approx(32.04, abs=0.2)  # 10 log10(4 / NOISE²)


def test_views_of_two_objects_are_not_one(bank: groups.GroupBank, c2w: torch.Tensor):
    whole = around.render(FourSided("cube", "red", "green", "blue", "yellow"), c2w, 32)
    for other in (StudioObject("sphere", "red", "red"), FourSided("cube", "red", "cyan", "purple", "yellow")):
        mixed = whole.clone()
        mixed[1:3] = around.render(other, c2w, 32)[1:3]
        assert not bank.name(noisy(mixed)).one
    marked = around.render(Marked("cube", "red", "yellow", "front"), c2w, 32)
    marked[1] = around.render(Marked("cube", "red", "yellow", "left"), c2w, 32)[1]  # a second mark
    assert not bank.name(noisy(marked)).one


def test_a_mark_on_either_side_is_a_mark_on_a_side():
    left, right, front = (Marked("cube", "red", "cyan", side) for side in ("left", "right", "front"))
    assert groups.agrees(left, right) and not groups.agrees(left, front)
    assert not groups.agrees(left, StudioObject("cube", "red", "red"))


def test_the_card_of_a_model_of_groups_has_rows_for_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    build_multi_view(tmp_path / "model")
    monkeypatch.setattr(groups, "SHEET", groups.SHEET[:1])
    monkeypatch.setattr(groups.GroupsOfViews, "free_captions", (("a cube", "color"),))
    monkeypatch.setattr(groups.GroupsOfViews, "samples", 4)
    report = model.evaluate(str(tmp_path / "model"), [1.0], 4, 0, tmp_path / "out")
    (row,), (free,) = report["full_captions"], report["partial_captions"]
    assert row["samples"] == 4 and 0 <= row["right"] <= row["shape_right"] <= 1 and 0 <= row["one_object"] <= 1
    assert sum(free["counts"].values()) + free["others"] == 4
    assert (tmp_path / "out" / "model.json").is_file() and (tmp_path / "out" / "sheet.png").is_file()


def test_a_nerf_of_a_model_of_groups_is_sampled_from_groups_of_cameras(tmp_path: Path):
    build_multi_view(tmp_path / "model")
    loaded = model.load(str(tmp_path / "model"))
    poses = studio.group_cameras(torch.Generator().manual_seed(0), 8)
    assert poses.shape == (8, 4, 4) and torch.equal(grouped(poses, 4), poses)
    assert poses[:4, 2, 3].std() < 1e-6 < (poses[0, 2, 3] - poses[4, 2, 3]).abs()  # each group has its own elevation
    method = studio.parse("pullback noise=slot levels=2 steps=1 cycles=1 views=4")
    result = studio.make(loaded, "a red cube", method, torch.Generator().manual_seed(0))[1]
    assert result.nfe == 2 * 4 and result.renders.shape == (4, 3, 64, 64)
