"""The shipped model of four views: it sees one object, and its pictures and NeRFs are what a caption says."""

from __future__ import annotations

import random

import pytest
import torch
from pullback import models
from pullback.evaluate import prompts
from pullback.evaluate.studio import around, groups
from pullback.evaluate.studio.around import StudioObject
from pullback.evaluate.studio.model import pictures_from_all_round
from pullback.resources import TINY_MV, TINY_MV_CONFIG


@pytest.fixture(scope="module")
def tiny() -> models.LatentModel:
    return models.load(TINY_MV)


def test_four_views_are_of_one_object_and_the_one_asked_for(tiny):
    """The card's shares are of 256; were they 0.9, fewer than 8 of 12 right had a chance of 0.5 %."""
    rng, cameras = random.Random(3), groups.Cameras(64)
    objects = [StudioObject(o.shape, o.front, o.back) for o in (captioned(rng) for _ in range(8))]
    sided = [around.FourSided(shape, *rng.sample(list(around.COLORS), 4)) for shape in around.SHAPES[:4]]
    wanted = [*objects, *sided]
    found = cameras.name(groups.sample(tiny, [o.caption for o in wanted], cameras, 2.5, seed=5, levels=16))
    assert sum(groups.agrees(f.obj, w) for f, w in zip(found, wanted, strict=True)) >= 8
    assert sum(f.one for f in found) >= 8


def captioned(rng: random.Random) -> StudioObject:
    obj = around.random_object(rng)
    while not isinstance(obj, StudioObject):
        obj = around.random_object(rng)
    return obj


def test_what_a_view_shows_depends_on_the_others(tiny):
    """One place's noise stays; the others' changes what it becomes, as no model of single views can show."""
    denoise = models.GuidedDenoiser(tiny, models.fixed_text(tiny, "a cube"), 1.0)
    poses = groups.Cameras(64).c2w[0]
    noise = torch.randn(2, 4, tiny.latent_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    noise[1, 0] = noise[0, 0]
    first, second = (denoise(5 * group, 5.0, poses)[0] for group in noise)
    assert float((first - second).square().mean().sqrt()) > 0.02


def test_pictures_of_a_prompt_are_whole_groups(tiny):
    poses = groups.Cameras(64).of(1)
    assert pictures_from_all_round(tiny, "a red cube", poses.repeat(2, 1, 1)[:6], 2.5).shape == (6, 3, 64, 64)


@pytest.mark.slow
def test_a_prompt_of_two_colours_becomes_its_nerf(tmp_path):
    obj = StudioObject("cube", "red", "blue")
    row = prompts.run_one(TINY_MV_CONFIG, obj, 0, tmp_path, [], threads=torch.get_num_threads())
    assert row.get("right"), row
    assert row["psnr"] >= 20
