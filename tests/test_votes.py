"""What docs/theory.md says of votes that agree only in part."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from pullback.evaluate.exact_worlds.joint import WideningGroups
from pullback.evaluate.studio.world import look_at

spec = importlib.util.spec_from_file_location("votes", Path(__file__).parents[1] / "experiments" / "votes.py")
assert spec is not None and spec.loader is not None
votes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(votes)


@pytest.mark.parametrize("weight", [0.5, 0.3])
def test_votes_that_agree_sample_the_weight(weight: float):
    assert votes.share(1.0, weight) == pytest.approx(weight, abs=0.003)


def test_votes_that_agree_in_part_keep_equal_weights_and_sharpen_others():
    assert votes.share(0.5, 0.5) == pytest.approx(0.5, abs=1e-6)
    assert votes.share(0.5, 0.3) < votes.share(0.75, 0.3) < 0.3 < 1 - votes.share(0.5, 0.3)


def test_scenes_alike_from_all_sides_have_votes_that_agree():
    world = votes.world_of("joint-shapes")
    assert min(votes.agreements(world, range(0, 16, 5))) > 0.8


def test_groups_begin_as_one_and_then_spread_over_one_side():
    """Before the spread there is one group; after it first cameras fill a side, and places keep to their own."""
    angles = torch.arange(64) * 360 / 64
    circle = look_at(torch.zeros(64), angles)
    views, generator = WideningGroups(circle, 4, begin=5, end=8), torch.Generator().manual_seed(0)
    drawn = [views(generator) for _ in range(400)]
    azimuths = [torch.atan2(v[:, 1, 3], v[:, 0, 3]).rad2deg().view(-1, 4) for v in drawn]
    assert [len(found) for found in azimuths] == [1] * 5 + [2] * 395
    for found in azimuths:
        assert torch.allclose(found.diff(dim=1) % 360, torch.full((len(found), 3), 90.0), atol=1e-3)
    first = torch.cat([found[:, 0] for found in azimuths])
    away = (first - first[0] + 180) % 360 - 180
    assert torch.allclose(away[:7], torch.zeros(7), atol=1e-3)  # both groups of visit 5 begin where the first one was
    assert float(away.abs().max()) <= 45 + 1e-3
    assert len(away[11:].round().unique()) >= 16


@pytest.mark.parametrize("seed", range(20))
def test_eight_visits_leave_no_gap(seed):
    """Sixteen points a golden section apart have gaps of 0.0902 at most, so no two neighbours of sixteen are missed."""
    circle = look_at(torch.zeros(64), torch.arange(64) * 360 / 64)
    views, generator = WideningGroups(circle, 4, begin=1, end=2), torch.Generator().manual_seed(seed)
    drawn = torch.cat([views(generator) for _ in range(10)][2:])
    numbers = (torch.atan2(drawn[:, 1, 3], drawn[:, 0, 3]).rad2deg() / 5.625).round().long() % 16
    seen = torch.zeros(16, dtype=torch.bool).index_fill(0, numbers, True)
    assert bool((seen | seen.roll(1)).all())
