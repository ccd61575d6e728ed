"""Specks of a voxel field: what is one, and that nothing else of the field changes."""

from __future__ import annotations

import pytest
import torch
from pullback.host.scene.specks import find_specks
from pullback.host.scene.volume_grid import VolumeGrid

N, RADIUS = 24, 0.75
SPACING = 2 * RADIUS / N
AXIS = ((torch.arange(N) + 0.5) * 2 / N - 1) * RADIUS  # of the voxels' middles


def field(ball: float = 0.4, at: float = 0.0) -> torch.Tensor:
    """Which voxels [z, y, x] lie in a ball about (at, at, at)."""
    axis = AXIS - at
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0) < ball


def test_a_speck_is_what_is_far_smaller_than_the_object_and_apart_from_it() -> None:
    ball, second = field(), field(0.12, 0.55)  # 9 % of the ball's voxels: meant
    specks = torch.zeros_like(ball)
    specks[1, 2, 20], specks[20, 3, 3:5] = True, True
    touching = torch.zeros_like(ball)
    touching[12, 12, ball[12, 12].nonzero().max() + 1] = True
    assert not (ball & (specks | touching | second)).any()
    found = find_specks(50.0 * (ball | second | specks | touching), SPACING)
    assert (found & specks).sum() == specks.sum() == 3
    assert not (found & (ball | second | touching)).any()
    assert int(found.sum()) <= 7 * 3  # they and their neighbours


def test_a_loose_cloud_that_hangs_on_the_object_is_emptied_and_what_is_thin_but_dense_is_not() -> None:
    ball = field()
    below = torch.zeros_like(ball)
    below[8:16, 8:16, :5] = True
    cloud = below & (torch.rand(N, N, N, generator=torch.Generator().manual_seed(0)) < 0.3)
    cloud[12, 12, :6] = True  # a thread up to the ball
    sheet = torch.zeros_like(ball)
    sheet[12, 4:20, 4:22] = True  # one voxel thick, through the ball
    found = find_specks(torch.where(ball | sheet, 20.0, torch.where(cloud, 1.5, 0.0)), SPACING)
    rest = cloud & ~(ball | sheet)
    assert not (found & ball).any() and (found & sheet).sum() <= 4 * 3  # at its corners
    assert (found & rest).sum() > 0.8 * rest.sum()
    assert (rest & ~found)[:, :, :3].sum() == 0  # only what lies beside the ball is left


@pytest.mark.parametrize("density", [0.0, 0.9 * 0.01 / SPACING, 50.0])
def test_fog_nothing_and_a_full_box_have_no_specks(density: float) -> None:
    assert not find_specks(torch.full((N, N, N), density), SPACING).any()


@pytest.mark.parametrize("bias", [-4.0, "blob_magic3d"])
def test_a_grid_loses_its_specks_and_nothing_else(bias: float | str) -> None:
    options = {"grid_size": [N, N, N], "radius": RADIUS, "density_bias": bias, "density_blob_std": 0.3}
    grid = VolumeGrid({**options, "density_activation": "softplus", "normal_type": None})
    speck = (3, 20, 2)  # z, y, x
    with torch.no_grad():
        grid.grid[0, 0] = torch.where(field(), 30.0, -30.0)
        grid.grid[0, 1:] = torch.randn(3, N, N, N, generator=torch.Generator().manual_seed(0))
        grid.grid[0, 0][speck] = 60.0
    before = grid.grid.detach().clone()
    place = AXIS[[speck[2], speck[1], speck[0]]][None]
    assert float(grid.forward_density(place).detach()) > 10
    assert 1 <= grid.remove_specks() <= 7
    assert float(grid.forward_density(place).detach()) < 1e-4
    changed = (grid.grid != before).any(1)[0]
    assert changed[speck] and int(changed.sum()) <= 7 and torch.equal(grid.grid[0, 1:], before[0, 1:])
    assert grid.remove_specks() == 0  # once is enough
