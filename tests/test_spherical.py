"""Noise on the sphere: white and of unit variance in every crop, the same where crops overlap."""

from __future__ import annotations

import math

import pytest
import torch
from pullback import noise
from pullback.errors import UserError
from pullback.noise.spherical import Spherical
from pullback.views import crops

D = torch.float64
SIZE = 48
SHAPE = (4, 4, SIZE, SIZE)
PIXELS = 4 * SIZE * SIZE  # numbers in one crop
FIVE_SIGMA = 5 / math.sqrt(PIXELS)  # of a mean of so many products; missed once in 2 million
TILTS = torch.tensor([0.0, 35.0, 90.0, -90.0], dtype=D)
AZIMUTHS = torch.tensor([10.0, 179.0, 0.0, 77.0], dtype=D)


def white(seed: int = 0):
    return noise.white(torch.Generator().manual_seed(seed), torch.empty(0, dtype=D))


def drawn(coupling: Spherical, views, shape=SHAPE, seed: int = 0) -> torch.Tensor:
    return coupling.at(coupling.draw(white(seed), shape), views, shape)


def lagged(eps: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Autocorrelation of every crop [V]."""
    height, width = eps.shape[2:]
    a = eps[:, :, down:, max(right, 0) : width + min(right, 0)]
    b = eps[:, :, : height - down, max(-right, 0) : width - max(right, 0)]
    return (a * b).mean((1, 2, 3))


@pytest.mark.parametrize("fovy", [40.0, 60.0, 90.0, 120.0])
def test_every_crop_is_unit_white_at_any_width_and_tilt(fovy):
    eps = drawn(Spherical(), crops.look(TILTS, AZIMUTHS, fovy))
    assert eps.mean((1, 2, 3)).abs().max() < FIVE_SIGMA
    assert (eps.square().mean((1, 2, 3)) - 1).abs().max() < math.sqrt(2) * FIVE_SIGMA
    # the corners' pixels hold the fewest cells, the middle ones most
    middle = (torch.arange(SIZE) - SIZE / 2 + 0.5).abs() < SIZE / 4
    for part in (eps[:, :, middle][..., middle], eps[:, :, ~middle][..., ~middle]):
        assert (part.square().mean((1, 2, 3)) - 1).abs().max() < 2 * math.sqrt(2) * FIVE_SIGMA
    for lag in ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (3, 0), (5, -4)):
        assert lagged(eps, *lag).abs().max() < 1.1 * FIVE_SIGMA, lag
    across = (eps[:, :1] * eps[:, 1:]).mean((1, 2, 3))
    assert across.abs().max() < 1.2 * FIVE_SIGMA  # one channel and another


@pytest.mark.parametrize("size", [(24, 40), (40, 24)])
def test_pixels_are_square_in_crops_that_are_not(size):
    shape = (2, 8, *size)
    views = crops.look(TILTS[:2], AZIMUTHS[:2], 60.0)
    eps = drawn(Spherical(), views, shape)
    assert (eps.square().mean() - 1).abs() < 5 * math.sqrt(2 / eps.numel())
    # the middle of an upright crop is what a square one sees there
    coupling = Spherical()
    square = (2, 8, 24, 24)
    wide = coupling.at(source := coupling.draw(white(), (2, 8, 24, 40)), views, (2, 8, 24, 40))
    cells = torch.cat([source[..., : 24 * 24], source[..., 24 * 40 :]], -1)
    assert torch.allclose(coupling.at(cells, views, square), wide[..., 8:-8])


def footprints(views, size: int, count: int = 100_000) -> torch.Tensor:
    """The pixel of each crop that many random directions fall into [V,count], size² where none: found by projection."""
    towards = torch.randn(count, 3, generator=torch.Generator().manual_seed(9), dtype=D)
    pixel = []
    for pose, fovy in zip(views["c2w"], views["fovy"], strict=True):
        camera = torch.linalg.inv(pose[:3, :3]) @ towards.T
        x, y = camera[:2] / -camera[2] / math.tan(float(fovy) / 2)
        column, row = ((x + 1) / 2 * size).floor(), ((1 - y) / 2 * size).floor()
        inside = (camera[2] < 0) & (x.abs() < 1) & (y.abs() < 1)
        pixel.append(torch.where(inside, row * size + column, size * size).long())
    return torch.stack(pixel)


@pytest.mark.parametrize("fovy", [50.0, 90.0])
@pytest.mark.parametrize("tilts", [(0.0, 0.0), (20.0, 45.0), (70.0, 90.0), (-90.0, -75.0)])
def test_overlapping_crops_correlate_by_the_area_that_their_pixels_share(tilts, fovy):
    size, channels = 12, 64
    shape = (2, channels, size, size)
    views = crops.look(torch.tensor(tilts, dtype=D), torch.tensor([170.0, 193.0], dtype=D), fovy)
    one, other = drawn(Spherical(cells=16.0), views, shape).flatten(2)
    first, second = footprints(views, size)
    both = (first < size**2) & (second < size**2)
    number = torch.zeros(size**2 + 1, size**2 + 1, dtype=D)
    number.index_put_((first, second), torch.ones((), dtype=D), accumulate=True)
    expected = number / (number.sum(1, keepdim=True) * number.sum(0)).sqrt()
    assert both.double().mean() > 0.01
    found = one.T @ other / channels
    expected = expected[:-1, :-1]
    strong = expected > 0.1
    # each correlation strays by 1/√channels; all together tell their sum far better
    scale = float((found[strong] * expected[strong]).sum() / expected[strong].square().sum())
    assert scale == pytest.approx(1, abs=0.05)
    assert (found - expected)[strong].std() < 1.5 / math.sqrt(channels) + 0.06  # cells are few, and sharp
    assert found[expected == 0].std() == pytest.approx(1 / math.sqrt(channels), rel=0.05)


def test_directions_that_no_crop_shares_are_independent():
    views = crops.look(torch.zeros(4, dtype=D), torch.tensor([0.0, 90.0, 180.0, 270.0], dtype=D), 80.0)
    eps = drawn(Spherical(), views).flatten(1)
    found = torch.corrcoef(eps) - torch.eye(4, dtype=D)
    assert found.abs().max() < FIVE_SIGMA


def test_a_crop_sees_the_same_noise_in_any_batch_and_for_any_width():
    coupling = Spherical()
    views = crops.look(TILTS, AZIMUTHS, 70.0)
    source = coupling.draw(white(), SHAPE)
    eps = coupling.at(source, views, SHAPE)
    turned = {key: value.flip(0) for key, value in views.items()}
    assert torch.equal(coupling.at(source, turned, SHAPE), eps.flip(0))
    one = {key: value[1:2] for key, value in views.items()}
    assert torch.equal(coupling.at(source, one, (1, *SHAPE[1:])), eps[1:2])
    # the same directions on a quarter of the pixels: sums of 2 × 2, each over the root of its cells
    half = coupling.at(source, one | {"fovy": 2 * ((one["fovy"] / 2).tan() / 2).atan()}, (1, *SHAPE[1:]))
    assert not torch.equal(half, eps[1:2])
    assert torch.equal(drawn(coupling, views), eps) and not torch.equal(drawn(coupling, views, seed=1), eps)


def test_a_frameworks_batch_is_crops_too():
    from pullback.views.cameras import camera_batch

    views = crops.look(TILTS.float(), AZIMUTHS.float(), 70.0)
    batch = camera_batch(views["c2w"], views["fovy"], SIZE, SIZE, normalize=True)
    assert torch.equal(drawn(Spherical(), batch), drawn(Spherical(), views))
    # the rays of that batch are the directions of the crops
    assert torch.allclose(batch["rays_d"], crops.directions(views, SIZE, SIZE), atol=1e-6)


@pytest.mark.parametrize("sigma_next", [1.9, 0.5])
def test_refreshed_noise_is_unit_white_and_remembers(sigma_next):
    coupling, draw = Spherical(), white()
    views = crops.look(TILTS, AZIMUTHS, 70.0)
    old = coupling.draw(draw, SHAPE)
    new = noise.refresh(old, coupling.draw(draw, SHAPE), 2.0, sigma_next)
    before, after = coupling.at(old, views, SHAPE), coupling.at(new, views, SHAPE)
    assert (after.square().mean((1, 2, 3)) - 1).abs().max() < math.sqrt(2) * FIVE_SIGMA
    for lag in ((0, 1), (1, 0), (2, 1)):
        assert lagged(after, *lag).abs().max() < 1.1 * FIVE_SIGMA
    assert ((before * after).mean((1, 2, 3)) - sigma_next / 2).abs().max() < math.sqrt(2) * FIVE_SIGMA


def test_a_crop_too_narrow_for_the_cells_is_still_white():
    eps = drawn(Spherical(), crops.look(TILTS, AZIMUTHS, 8.0))
    assert (eps.square().mean((1, 2, 3)) - 1).abs().max() < math.sqrt(2) * FIVE_SIGMA
    for lag in ((0, 1), (1, 0), (1, 1)):
        assert lagged(eps, *lag).abs().max() < 1.1 * FIVE_SIGMA


def test_views_that_are_no_crops_and_impossible_values_are_refused():
    coupling = Spherical()
    source = coupling.draw(white(), SHAPE)
    with pytest.raises(UserError, match="c2w"):
        coupling.at(source, [0, 1, 2, 3], SHAPE)
    with pytest.raises(UserError, match="c2w"):
        coupling.at(source, {"rays_d": torch.zeros(4, 8, 8, 3)}, SHAPE)
    views = crops.look(TILTS, AZIMUTHS, 70.0)
    with pytest.raises(UserError, match="at one size"):
        coupling.at(source, views, (4, 4, 50, 50))
    with pytest.raises(UserError, match="4 crops for 2"):
        coupling.at(source, views, (2, *SHAPE[1:]))
    with pytest.raises(UserError, match="between 0 and pi"):
        coupling.at(source, views | {"fovy": torch.full((4,), 4.0)}, SHAPE)
    for narrowest, cells, fovy in ((0.0, 4.0, 0.7), (0.8, 0.5, 0.7), (0.8, 4.0, 4.0)):
        with pytest.raises(UserError, match="needs angles"):
            Spherical(narrowest, cells, fovy)
