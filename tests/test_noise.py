"""Couplings: unit white in every view, with the promised correlation between views, and kept under RePaint."""

from __future__ import annotations

import math

import pytest
import torch
from pullback import noise
from pullback.diffreps import orbit
from pullback.errors import UserError

CAMERAS = orbit(torch.tensor([0.0, 20.0, 0.0]), torch.tensor([0.0, 90.0, 180.0]))
SHAPE = (3, 4, 100, 100)  # 120 000 numbers: a mean or correlation strays by 1/√40 000 = 0.005 a view
FIVE_SIGMA = 5 / math.sqrt(40_000)  # missed once in 2 million draws


def white(seed: int = 0, device: torch.device | str = "cpu"):
    return noise.white(torch.Generator().manual_seed(seed), torch.empty(0, dtype=torch.float64, device=device))


def correlations(eps: torch.Tensor) -> torch.Tensor:
    return torch.corrcoef(eps.flatten(1))


@pytest.mark.parametrize("name", noise.COUPLINGS)
def test_every_view_is_unit_white(name, device):
    coupling = noise.find(name)
    eps = coupling.at(coupling.draw(white(device=device), SHAPE), CAMERAS.to(device), SHAPE)
    assert eps.shape == SHAPE and eps.device.type == device.type
    assert eps.mean((1, 2, 3)).abs().max() < FIVE_SIGMA
    assert (eps.square().mean((1, 2, 3)) - 1).abs().max() < math.sqrt(2) * FIVE_SIGMA
    for shift in ((0, 0, 1), (0, 1, 0), (1, 0, 0)):
        assert (eps * eps.roll(shift, (1, 2, 3))).mean().abs() < FIVE_SIGMA


@pytest.mark.parametrize("name,between", [("shared", 1.0), ("independent", 0.0), ("fresh", 0.0)])
def test_correlation_between_views(name, between, device):
    coupling = noise.find(name)
    found = correlations(coupling.at(coupling.draw(white(device=device), SHAPE), CAMERAS.to(device), SHAPE))
    expected = between + (1 - between) * torch.eye(3, dtype=torch.float64, device=device)
    assert (found - expected).abs().max() < FIVE_SIGMA


@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.5), (0.3, 0.5, 0.2), (0.0, 1.0)])
def test_smooth_noise_correlates_as_the_polynomial_in_the_cosine(weights):
    angle = torch.tensor([0.0, 40.0, 180.0]).deg2rad()
    poses = torch.eye(4).repeat(3, 1, 1)
    poses[:, :3, 3] = 2.5 * torch.stack([angle.cos(), torch.zeros(3), angle.sin()], -1)
    coupling = noise.Smooth(weights)
    source = coupling.draw(white(), SHAPE)
    for views in (poses, {"c2w": poses}, {"camera_positions": poses[:, :3, 3], "c2w": None}, poses[:, :3, 3]):
        eps = coupling.at(source, views, SHAPE)
        cosine = (angle[:, None] - angle).cos().double()
        expected = sum(a * cosine**p for p, a in enumerate(weights))
        assert (correlations(eps) - expected).abs().max() < FIVE_SIGMA
    assert torch.equal(coupling.at(source, poses.flip(0), SHAPE), coupling.at(source, poses, SHAPE).flip(0))


def test_smooth_noise_needs_cameras():
    coupling = noise.find("smooth")
    with pytest.raises(UserError, match="needs to know the cameras"):
        coupling.at(coupling.draw(white(), SHAPE), [0, 1, 2], SHAPE)
    with pytest.raises(UserError, match="sum 1"):
        noise.Smooth((0.5, 0.6))


@pytest.mark.parametrize("name", ["shared", "independent"])
@pytest.mark.parametrize("sigma,sigma_next", [(2.0, 1.9), (2.0, 0.5), (2.0, 0.0)])
def test_repaint_refresh_keeps_the_marginal_and_correlates_as_the_ratio(name, sigma, sigma_next, device):
    coupling, draw = noise.find(name), white(device=device)
    old = coupling.draw(draw, SHAPE)
    new = noise.refresh(old, coupling.draw(draw, SHAPE), sigma, sigma_next)
    before, after = coupling.at(old, None, SHAPE), coupling.at(new, None, SHAPE)
    assert (after.square().mean((1, 2, 3)) - 1).abs().max() < math.sqrt(2) * FIVE_SIGMA
    assert torch.allclose(correlations(after), correlations(before), atol=2 * FIVE_SIGMA)
    across = (before * after).mean((1, 2, 3))
    assert (across - sigma_next / sigma).abs().max() < 2 * FIVE_SIGMA


def test_refreshed_noise_at_sigma_is_the_old_at_sigma_next_plus_what_is_missing():
    draw = white()
    old, z = draw((1, 2, 3, 3)), draw((1, 2, 3, 3))
    again = 3.0 * noise.refresh(old, z, 3.0, 1.0)
    assert torch.allclose(again, 1.0 * old + math.sqrt(8) * z, atol=1e-14)


def test_independent_noise_needs_as_many_views_at_every_visit():
    coupling = noise.Independent()
    source = coupling.draw(white(), (3, 1, 4, 4))
    with pytest.raises(UserError, match="keep their number"):
        coupling.at(source, None, (2, 1, 4, 4))


def test_shared_noise_follows_any_number_of_views_of_one_size():
    coupling = noise.Shared()
    source = coupling.draw(white(), (3, 1, 4, 4))
    assert torch.equal(coupling.at(source, None, (5, 1, 4, 4))[4], source[0])
    with pytest.raises(UserError, match="render at one size"):
        coupling.at(source, None, (3, 1, 8, 8))


def test_unknown_names_are_refused_and_objects_taken():
    with pytest.raises(UserError, match=r"'share'.*shared"):
        noise.find("share")
    own = noise.Independent(kept=False)
    assert noise.find(own) is own


def test_one_seed_is_one_noise_in_one_dtype():
    assert torch.equal(white(3)((2, 2)), white(3)((2, 2)))
    assert white(3)((2, 2)).dtype == torch.float64


def test_a_coupling_takes_options_by_name():
    from pullback import noise

    assert noise.find({"type": "surface", "radius": 0.3}) == noise.Surface(radius=0.3)
    assert noise.find({"type": "smooth", "weights": [0.25, 0.75]}) == noise.Smooth((0.25, 0.75))
    assert noise.find({"type": "fresh"}) == noise.find("fresh") == noise.Independent(kept=False)
    for choice, words in (
        ({"radius": 1.0}, "names no type"),
        ({"type": "surfaces"}, "not known; use one of"),
        ({"type": "surface", "radus": 1.0}, "no option 'radus'; its options: share, radius, fovy, points, kept"),
        ({"type": "surface", "radius": "wide"}, "radius must be float, not 'wide'"),
        ({"type": "surface", "radius": -1.0}, "radius above 0"),
        ({"type": "smooth", "weights": 0.5}, r"'smooth' cannot take \{'weights': 0.5\}: "),
    ):
        with pytest.raises(UserError, match=words):
            noise.find(choice)
