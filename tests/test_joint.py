"""Joint denoisers in the core: groups of views, noise by slot, and the law of samples of a whole."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pullback
import pytest
import torch
from pullback import noise
from pullback.errors import UserError
from pullback.noise import Shared, Slot, white
from pullback.views.groups import Group, evenly
from torch import Tensor

SHAPE = (8, 2, 4, 4)


class Whole:
    """The exact denoiser of four one-pixel views of N objects; wholes [M,4] have weights [M] and a spread."""

    group_size = 4

    def __init__(self, wholes: Tensor, weights: Tensor, spread: float = 0.05) -> None:
        self.wholes, self.weights, self.spread = wholes, weights, spread

    def __call__(self, noisy: Tensor, sigma: float, views: Any) -> Tensor:
        y = noisy.reshape(len(noisy) // 4, 4, -1).mT  # [groups, objects, places]
        variance = sigma**2 + self.spread**2
        square = (y[:, :, None] - self.wholes).square().sum(-1)
        mean = (self.weights.log() - square / (2 * variance)).softmax(-1) @ self.wholes
        return (mean + self.spread**2 / variance * (y - mean)).mT.reshape(noisy.shape)


class Turning(torch.nn.Module):
    """N objects of four sides; view k shows side k of each, as a picture of N pixels."""

    def __init__(self, count: int = 1) -> None:
        super().__init__()
        self.sides = torch.nn.Parameter(torch.zeros(4, count, dtype=torch.float64))

    def render(self, views: Tensor) -> Tensor:
        return self.sides[views][:, None, None]


def draws() -> noise.White:
    return white(torch.Generator().manual_seed(0), torch.zeros((), dtype=torch.float64))


def test_slot_noise_is_the_same_for_every_group_and_white_in_it():
    coupling = noise.find({"type": "slot", "group": 4})
    shape = (8, 3, 40, 40)
    source = coupling.draw(draws(), shape)
    found = coupling.at(source, None, shape)
    assert coupling.kept and source.shape == (4, 3, 40, 40)
    assert torch.equal(found[:4], found[4:])
    gram = found[:4].flatten(1) @ found[:4].flatten(1).T / 4800
    assert torch.allclose(gram, torch.eye(4, dtype=torch.float64), atol=5 / 4800**0.5)  # 5 standard errors


def test_slot_noise_refuses_another_size_and_an_empty_group():
    with pytest.raises(UserError, match="the renders changed to"):
        Slot().at(Slot().draw(draws(), SHAPE), None, (8, 2, 5, 5))
    with pytest.raises(UserError, match="a group has at least 1 view, not 0"):
        Slot(0)


def sampler(denoise: Any, views: Tensor, **options: Any) -> pullback.Sampler:
    sigmas = pullback.karras_sigmas(20, 0.02, 60.0, rho=5.0)
    return pullback.Sampler(Turning(), views, denoise, sigmas, **options)


def test_slot_noise_is_the_default_of_joint_denoisers_alone():
    joint, four = Whole(torch.eye(4, dtype=torch.float64), torch.full((4,), 0.25)), torch.arange(4)
    assert sampler(joint, four).couplings == [Slot(4)]
    assert sampler(joint, four, noise="shared").couplings == [Shared()]
    assert sampler(lambda noisy, sigma, views: noisy, four).couplings == [Shared()]


@pytest.mark.parametrize("coupling", [None, "shared", "independent"])
def test_views_must_be_whole_groups(coupling: str | None):
    joint = Whole(torch.eye(4, dtype=torch.float64), torch.full((4,), 0.25))
    run = sampler(joint, torch.arange(3), noise=coupling)
    with pytest.raises(UserError, match=r"sees 4 views at a time; use a multiple of it, not 3"):
        run.visit(run.initial())


def test_calls_are_counted_by_views():
    joint = Whole(torch.eye(4, dtype=torch.float64), torch.full((4,), 0.25))
    run = sampler(joint, torch.arange(4).repeat(2))
    assert run.visit(run.initial()).nfe == 8


def test_samples_are_wholes_as_often_as_their_weights_say():
    # sides 0 and 2 take both values in any combination, so single views would mix them; two wholes do not exist
    wholes = torch.tensor([[1, 0, 1, 0], [1, 0, -1, 0], [-1, 0, 1, 0.5]], dtype=torch.float64)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    count, field = 4000, Turning(4000)
    pullback.sample(
        field, torch.arange(4).repeat(2), Whole(wholes, weights), pullback.karras_sigmas(30, 0.02, 60.0, rho=5.0),
        solver=pullback.GaussNewton(iterations=1), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    distance = (field.sides.detach().T[:, None] - wholes).abs().amax(-1)
    assert float((distance.amin(1) < 0.25).double().mean()) > 0.99  # five times the spread; Euler leaves a few between
    found = Counter(distance.argmin(1).tolist())
    chi = sum((found[k] - count * float(w)) ** 2 / (count * float(w)) for k, w in enumerate(weights))
    assert chi < 13.8  # the 0.999 quantile for two degrees of freedom


def test_a_group_stands_evenly_round():
    elevation, azimuth = Group().spread(torch.tensor([10.0, 20.0]), torch.tensor([5.0, 300.0]))
    assert elevation.tolist() == [10.0] * 4 + [20.0] * 4
    assert azimuth.tolist() == [5.0, 95.0, 185.0, 275.0, 300.0, 390.0, 480.0, 570.0]
    assert evenly(4) == Group() and len(evenly(3)) == 3 and evenly(2) == Group((0.0, 180.0))
    for steps in ((), (10.0, 100.0)):
        with pytest.raises(UserError, match="a group's steps of azimuth must begin with 0"):
            Group(steps)
