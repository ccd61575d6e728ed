"""What docs/theory.md says of votes that agree only in part."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

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
