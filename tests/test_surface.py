"""Noise on a sphere round the object: white in every view, the same where two views see the same place."""

from __future__ import annotations

import math

import pullback
import pytest
import torch
from pullback import noise
from pullback.diffreps import orbit
from pullback.errors import UserError
from pullback.noise.surface import Surface, evenly

D = torch.float64
SHAPE = (4, 3, 48, 48)
DEVIATION = 1 / math.sqrt(48 * 48 * 3)  # of the mean of one view's pixels
POSES = orbit(torch.tensor([10.0, 10.0, 10.0, -10.0]), torch.tensor([0.0, 5.0, 90.0, 180.0]))


def draw(coupling: Surface, seed: int = 0) -> torch.Tensor:
    white = noise.white(torch.Generator().manual_seed(seed), torch.empty(0, dtype=D))
    return coupling.draw(white, SHAPE)


def eps(coupling: Surface, views=POSES, seed: int = 0) -> torch.Tensor:
    return coupling.at(draw(coupling, seed), views, SHAPE)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("points", [300, 40_000])
def test_every_view_is_unit_white(share: float, points: int):
    found = eps(Surface(share, points=points))
    assert found.mean((1, 2, 3)).abs().max() < 5 * DEVIATION
    assert (found.square().mean((1, 2, 3)) - 1).abs().max() < 5 * math.sqrt(2) * DEVIATION
    for shift in ((0, 1), (1, 0), (1, 1)):
        assert (found * found.roll(shift, (2, 3))).mean((1, 2, 3)).abs().max() < 5 * DEVIATION


def test_all_shared_is_shared():
    found = eps(Surface(1.0))
    assert torch.equal(found, found[:1].expand_as(found))


def test_off_the_sphere_all_views_have_one_image():
    found = eps(Surface())
    same = (found == found[:1]).all(1)[1:].double()
    radius = 0.5 * 48 / math.tan(0.35) * math.tan(math.asin(0.6 / 3))  # of the sphere's outline, in pixels
    for margin, sign in ((0.0, -1), (1.0, 1)):  # pixels that the outline crosses see points
        assert ((math.pi * (radius + margin) ** 2 / 48**2 - (1 - same.mean((1, 2)))) * sign > 0).all()


def blocks(views: torch.Tensor) -> torch.Tensor:
    """Means over 6×6 pixels of the middle of the sphere [V,3,2,2]: what a view decides by is coarse."""
    return torch.nn.functional.avg_pool2d(views[..., 18:30, 18:30], 6)


def test_near_views_share_the_places_they_both_see_and_far_ones_have_none():
    found = torch.stack([blocks(eps(Surface(), seed=seed)) for seed in range(200)]).flatten(2)  # [200,V,12]
    found = found / found.square().mean((0, 2), keepdim=True).sqrt()
    between = torch.einsum("nvk,nwk->vw", found, found) / (200 * 12)
    five = 5 / math.sqrt(200 * 12)
    assert between[0, 1] > 0.6  # a turn of 5° moves the middle by 1.4 of the block's 6 pixels
    assert abs(between[0, 2]) < five and abs(between[0, 3]) < five and abs(between[2, 3]) < five


def test_a_place_is_seen_where_the_camera_projects_it():
    # one point of noise, on the lattice's, is found by the pixel that a ray through it crosses
    coupling, index = Surface(points=500), 120
    image, source = 48 * 48, torch.zeros(1, 3, 48 * 48 + 500, dtype=D)
    source[..., image + index] = 1
    point = 0.6 * evenly(500)[index]
    azimuth = float(torch.atan2(point[1], point[0]).rad2deg())
    facing = orbit(torch.tensor([0.0], dtype=D), torch.tensor([azimuth + 10], dtype=D))
    row, column = (int(k) for k in coupling.at(source, facing, (1, *SHAPE[1:]))[0, 0].nonzero()[0])
    camera = (point - facing[0, :3, 3]) @ facing[0, :3, :3]
    focal = 24 / math.tan(0.35)
    assert (row, column) == (int(24 + focal * camera[1] / camera[2]), int(24 - focal * camera[0] / camera[2]))
    behind = orbit(torch.tensor([0.0], dtype=D), torch.tensor([azimuth + 180], dtype=D))
    assert not coupling.at(source, behind, (1, *SHAPE[1:])).any()


def test_a_camera_batch_says_its_own_angle_of_view():
    batch = {"c2w": POSES, "fovy": torch.full((4,), 0.5)}
    assert torch.equal(eps(Surface(), batch), eps(Surface(fovy=0.5)))
    assert torch.equal(eps(Surface(), {"c2w": POSES}), eps(Surface()))
    assert torch.equal(eps(Surface(), POSES.flip(0)), eps(Surface()).flip(0))


def test_what_does_not_fit_is_refused():
    coupling = Surface()
    for options in ({"share": 1.2}, {"radius": 0.0}, {"fovy": 4.0}, {"points": 0}):
        with pytest.raises(UserError, match="needs share in"):
            Surface(**options)
    with pytest.raises(UserError, match="needs to know the cameras"):
        eps(coupling, torch.arange(4))
    with pytest.raises(UserError, match="render at one size"):
        coupling.at(draw(coupling), POSES, (4, 3, 24, 24))
    with pytest.raises(UserError, match="4 cameras for 3 renders"):
        coupling.at(draw(coupling), POSES, (3, 3, 48, 48))


def test_a_voxel_field_is_sampled_with_it():
    prior = pullback.priors.GaussianPrior(torch.zeros(3, 8, 8), 0.1 * torch.eye(192))
    field = pullback.diffreps.VoxelField(6, 8, 8, 8)
    result = pullback.sample(
        field, POSES, prior.denoise, pullback.karras_sigmas(3, 0.1, 5.0), **pullback.preset("faithful")
    )
    assert result.renders.shape == (4, 3, 8, 8) and math.isfinite(result.consistency)


def test_errors_are_averaged_over_what_each_point_is_seen_in():
    coupling = Surface()
    views = POSES[[0, 3]]  # front and back
    front = (evenly(coupling.points) * views[0, :3, 3]).sum(-1) > 0
    even, seen = coupling.average(torch.full((2, 48, 48), 3.0), views)
    assert torch.allclose(even[seen], torch.tensor(3.0)) and not even[~seen].any() and 0.7 < seen.double().mean() < 0.9
    error = torch.zeros(2, 48, 48)
    error[0, 24:] = 1.0  # the lower half of the front
    found, seen = coupling.average(error, views)
    below = evenly(coupling.points)[:, 2] < 0
    assert not found[seen & ~front].any()
    assert found[seen & front & below].mean() > 0.7 and found[seen & front & ~below].mean() < 0.3


def test_renewed_points_are_as_white_and_the_rest_is_as_it_was():
    coupling = Surface(0.3)
    old, fresh = draw(coupling), draw(coupling, seed=1)
    where = evenly(coupling.points)[:, 0] > 0
    new = coupling.renew(old, fresh, where)
    image = 48 * 48
    assert torch.equal(new[..., :image], old[..., :image])
    assert torch.equal(new[..., image:][..., where], fresh[..., image:][..., where])
    assert torch.equal(new[..., image:][..., ~where], old[..., image:][..., ~where])
