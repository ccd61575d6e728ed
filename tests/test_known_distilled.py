"""The baselines as methods of the worlds: they reach a single mode, seek it, count their calls, refuse bad options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pullback.errors import UserError
from pullback.evaluate import exact_worlds
from pullback.evaluate.exact_worlds import methods, scenes
from pullback.evaluate.exact_worlds.rings import PlaneWorld
from pullback.evaluate.exact_worlds.sceneworld import SceneWorld

BASELINES = ("sds", "sjc", "sdi")
SMOOTHING = 0.1


def plane(*means: tuple[float, float], samples: int = 200) -> PlaneWorld:
    """Gaussians of equal weight, each a mode of its own."""
    count = len(means)
    return PlaneWorld("test", torch.tensor(means), torch.ones(count), torch.arange(count), SMOOTHING, samples)


def points(method: str, world: PlaneWorld, seed: int = 0) -> torch.Tensor:
    rep: Any = methods.parse(method)(world, seed).diffrep
    return rep.values.detach().reshape(-1, 2)


@pytest.mark.parametrize("name", BASELINES)
def test_one_gaussian_is_left_for_its_mode(name):
    # A sampler's points would spread by SMOOTHING round the mean.
    world = plane((0.7, -0.3))
    found = points(f"{name} steps=200 lr=0.02 sigma_min=0.05 sigma_max=2", world)
    assert (found.mean(0) - world.means[0]).norm() < 0.02
    assert found.std(0).max() < SMOOTHING / 2


def test_one_scene_is_found():
    world = SceneWorld("test", scenes.one_coloured()[5:6])
    outcome = methods.parse("sds steps=75 lr=0.1 sigma_min=0.05 sigma_max=4")(world, 0)
    verdict = world.judge(outcome.diffrep)
    assert not verdict["blend"] and verdict["consistent"]
    assert outcome.nfe == 75 * 8  # steps, views
    assert not outcome.extra["flagged"]


def test_above_the_noise_that_hides_two_modes_the_middle_is_sought():
    # Posterior means at σ far above the modes' distance are near the middle, and so is what is distilled from them;
    # no sampler of this prior would put a point there. Below it, points gather round the means; a sampler's have a
    # median distance of 1.18 SMOOTHING from theirs.
    world = plane((-0.5, 0.0), (0.5, 0.0))
    far = points("sds steps=200 lr=0.02 sigma_min=2 sigma_max=4", world)
    near = points("sds steps=200 lr=0.02 sigma_min=0.05 sigma_max=0.3", world)
    assert far.norm(dim=1).max() < 0.25
    assert torch.cdist(near, world.means).min(1).values.median() < SMOOTHING / 2


def test_sjc_is_sds_with_one_weight_for_all_levels():
    world = plane((0.5, 0.5), (-0.5, 0.0))
    assert torch.equal(points("sjc steps=20", world), points("sds steps=20 weight=uniform", world))
    assert not torch.equal(points("sjc steps=20", world), points("sds steps=20", world))


def test_a_seed_says_it_all():
    world = plane((0.5, 0.5), (-0.5, 0.0))
    assert torch.equal(points("sds steps=5", world, 3), points("sds steps=5", world, 3))
    assert not torch.equal(points("sds steps=5", world, 3), points("sds steps=5", world, 4))


@pytest.mark.parametrize("name", BASELINES)
def test_levels_lie_in_the_range_asked_for_and_calls_are_counted(name):
    world, asked = plane((0.5, 0.5), samples=10), []
    exact = world.prior.denoise
    world.prior.denoise = lambda noisy, sigma, views: asked.append(sigma) or exact(noisy, sigma, views)
    outcome = methods.parse(f"{name} steps=12 levels=30 sigma_min=0.2 sigma_max=3")(world, 0)
    calls = asked[:-2]  # the last two are those of the check at the end
    assert len(calls) == outcome.nfe >= 12
    assert min(calls) >= 0.2 - 1e-9 and max(calls) <= 3 + 1e-9
    assert min(calls) < 0.4 and max(calls) > 1.5


@pytest.mark.parametrize("name", BASELINES)
def test_what_a_world_sets_for_the_sampler_is_not_theirs(name):
    world = SceneWorld("test", scenes.one_coloured()[5:6])
    assert {"levels", "sigma_max"} <= world.defaults.keys()
    assert methods.parse(name).settings(world) == methods.METHODS[name].options


@pytest.mark.parametrize("name", BASELINES)
def test_they_stand_in_the_table(name, tmp_path):
    text = exact_worlds.evaluate(["mixture"], [f"{name} steps=3"], [0], tmp_path)
    assert f"| {name} steps=3 | 2000 |" in text and (tmp_path / "mixture-samples.png").exists()


@pytest.mark.parametrize(
    "text,message",
    [("sds steps=0", "steps >= 1"), ("sjc lr=-1", "lr > 0"), ("sds lr=nan", "finite"),
     ("sds sigma_min=3 sigma_max=2", "sigma_min < sigma_max"), ("sjc sigma_min=0", "0 < sigma_min"),
     ("sdi levels=0", "at least 1"), ("sds weight=dreamfusion", "fantasia3d"),
     ("sdi inversion_steps=0", "at least 1 inversion step"), ("sjc weight=sds", "no option"),
     ("sds steps=many", "type int")],
)  # fmt: skip
def test_a_bad_option_gets_one_sentence(text, message):
    with pytest.raises(UserError, match=message) as caught:
        methods.parse(text)(plane((0.5, 0.5), samples=10), 0)
    assert "\n" not in str(caught.value)
