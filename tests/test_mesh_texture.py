"""Textures of meshes: rays against triangles, the map from texels to pixels, and what is sampled where it is known."""

from __future__ import annotations

import math
from pathlib import Path

import pullback
import pytest
import torch
from meshes import ball
from pullback.diffreps import MeshTexture, orbit
from pullback.evaluate.exact_worlds.gauss import GaussWorld
from pullback.evaluate.exact_worlds.propagate import propagate, schedule
from pullback.evaluate.exact_worlds.textured import TextureWorld, cube
from pullback.views.hits import first_hit

D = torch.float64


def poses(count: int = 4) -> torch.Tensor:
    return orbit(torch.tensor([35.0, -20.0], dtype=D).repeat(count)[:count], torch.arange(count, dtype=D) * 85 + 20)


# ---- rays


def test_rays_meet_a_ball_where_its_triangles_are():
    """A fine mesh of a ball against the ball: the same outline and distance, as far as the faces allow."""
    vertices, faces = ball(24)
    triangles = vertices[faces.long()].to(D)
    generator = torch.Generator().manual_seed(0)
    origins = torch.nn.functional.normalize(torch.randn(2000, 3, generator=generator, dtype=D), dim=-1) * 3
    directions = -origins + torch.randn(2000, 3, generator=generator, dtype=D)
    number, weights = first_hit(origins, directions, triangles)
    points = (weights[..., None] * triangles[number.clamp(min=0)]).sum(1)
    unit = torch.nn.functional.normalize(directions, dim=-1)
    middle = -(origins * unit).sum(1)
    off = (origins + middle[:, None] * unit).norm(dim=1)
    hit, clear = number >= 0, (off - 1).abs() > 0.01
    assert torch.equal(hit[clear], (off < 1)[clear]) and 100 < int(hit.sum()) < 1900
    inside = hit & (off < 0.95)
    expected = origins + (middle - (1 - off.square()).clamp(min=0).sqrt())[:, None] * unit
    assert float((points - expected)[inside].norm(dim=1).max()) < 0.05
    assert torch.allclose(weights.sum(-1), torch.ones(2000, dtype=D)) and float(weights.min()) >= 0


def test_the_nearest_triangle_is_seen_whatever_their_order_and_number_at_a_time(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    triangles = torch.randn(50, 3, 3, generator=generator, dtype=D)
    rays = torch.randn(2, 300, 3, generator=generator, dtype=D)
    number, weights = first_hit(rays[0], rays[1], triangles)
    order = torch.randperm(50, generator=generator)
    monkeypatch.setattr("pullback.views.hits.PAIRS", 70)
    other, same = first_hit(rays[0], rays[1], triangles[order])
    assert torch.equal(torch.where(other >= 0, order[other.clamp(min=0)], -1), number)
    assert torch.allclose(weights, same, atol=1e-9)


def test_no_ray_slips_through_between_triangles():
    for dtype in (torch.float32, D):
        vertices, faces = ball(16)
        at = torch.nn.functional.normalize(vertices, dim=-1).to(dtype)
        mids = (at[faces.long()] + at[faces.long()].roll(1, 1)).reshape(-1, 3) / 2
        ends = torch.cat([at, mids])  # corners and middles of edges, from outside
        number, _ = first_hit(3 * ends, -ends, at[faces.long()])
        assert bool((number >= 0).all())


def test_triangles_without_an_area_and_what_lies_behind_are_not_seen():
    triangles = torch.tensor([[[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[-1, -1, 5], [3, -1, 5], [-1, 3, 5]]], dtype=D)
    rays = torch.zeros(2, 3, dtype=D), torch.tensor([[0, 0, 1.0], [0, 0, -1]], dtype=D)
    assert first_hit(rays[0], rays[1], triangles)[0].tolist() == [1, -1]


# ---- texels


def test_a_texture_that_is_a_ramp_shows_its_coordinates():
    """Bilinear texels of a linear function are that function, so a render shows (s, t) of each point."""
    size = 32
    module = MeshTexture(*cube(), resolution=64, height=size, width=size, channels=2, background=5.0).to(D)
    at = (torch.arange(64, dtype=D) + 0.5) / 64
    with torch.no_grad():
        module.texture.copy_(torch.stack([at.expand(64, 64), at[:, None].expand(64, 64)]))
    views = poses()
    render = module.render(views)
    places, seen = module._seen(views)
    inside = (seen > 0) & ((places - 0.5).abs() < 0.49).all(-1)
    assert 0.1 < float(seen.mean()) < 0.6
    assert torch.allclose(render.movedim(1, -1)[inside], places[inside])
    assert torch.allclose(render.movedim(1, -1)[seen == 0], render.new_full((), 5.0))


def test_each_side_of_a_cube_shows_its_sixth_of_the_texture():
    """Straight views of the six sides; the way round is that of the coordinates."""
    module = MeshTexture(*cube(), resolution=12, height=9, width=9, channels=1).to(D)
    with torch.no_grad():
        sides = torch.arange(6.0, dtype=D).view(2, 3).repeat_interleave(6, 0).repeat_interleave(4, 1)
        module.texture.copy_(sides[None])
    elevation = torch.tensor([0.0, 0, 0, 0, 90, -90], dtype=D)
    views = orbit(elevation, torch.tensor([0.0, 180, 90, -90, 0, 0], dtype=D))
    assert torch.allclose(module.render(views)[:, 0, 4, 4], torch.arange(6.0, dtype=D))


def test_the_render_is_the_sparse_matrix_times_the_texture_and_the_background():
    module = MeshTexture(*cube(), resolution=9, height=6, width=8, channels=3, background=0.3, samples=2).to(D)
    torch.manual_seed(0)
    with torch.no_grad():
        module.texture.normal_()
    views = poses(3)
    matrix = module.matrix(views)
    linear = (matrix @ module.texture.flatten(1).T).view(3, 6, 8, 3).movedim(-1, 1)
    cover = matrix.to_dense().sum(1).view(3, 1, 6, 8)
    assert torch.allclose(module.render(views), linear + (1 - cover) * 0.3)
    assert float(cover.min()) == 0 and float(cover.max()) == pytest.approx(1) and int(((cover % 1) > 0.1).sum()) > 0
    assert matrix.coalesce().values().numel() < 0.3 * matrix.numel()


def test_points_of_a_pixel_are_averaged():
    fine = MeshTexture(*cube(), resolution=9, height=12, width=12).to(D)
    coarse = MeshTexture(*cube(), resolution=9, height=6, width=6, samples=2).to(D)
    torch.manual_seed(0)
    texture = torch.randn(3, 9, 9, dtype=D)
    for module in (fine, coarse):
        with torch.no_grad():
            module.texture.copy_(texture)
    whole = torch.nn.functional.avg_pool2d(fine.render(poses()), 2)
    assert torch.allclose(coarse.render(poses()), whole)


def test_views_that_change_are_looked_up_anew():
    module = MeshTexture(*cube(), resolution=6, height=5, width=5).to(D)
    views = poses()
    first = module.footprints(views)
    assert module.footprints(views) is not None and module.footprints(views)[0] is first[0]
    views.copy_(poses().flip(0))  # in place: the same tensor with other cameras
    assert torch.equal(module.footprints(views)[1], first[1].flip(0))
    assert module.float().footprints(views)[1].dtype == torch.float32


def test_a_fit_in_one_step_leaves_texels_alone_that_no_view_shows():
    module = MeshTexture(*cube(), resolution=12, height=16, width=16, channels=1).to(D)
    views, torch_seed = poses(2), torch.manual_seed(0)
    target = module.render(views).detach() + 0.5
    solver = pullback.GaussNewton(iterations=1, cg_iterations=15)
    denoise = lambda noisy, sigma, views: target  # noqa: E731
    pullback.sample(module, views, denoise, torch.tensor([1.0, 0.0]), solver=solver, generator=torch_seed)
    seen = module.matrix(views).to_dense().sum(0).view(12, 12)
    assert float(module.texture.detach()[0][seen == 0].abs().max()) < 1e-9
    assert int((seen == 0).sum()) > 10 and float(module.texture.detach()[0][seen > 1].mean()) > 0.3


# ---- known answers


@pytest.fixture(scope="module")
def world() -> TextureWorld:
    return TextureWorld("small", views=3)


def test_the_texture_that_fits_a_gaussian_best_is_the_mean_of_its_law(world):
    """N(C AᵀΣ⁻¹μ, C) by weighted least squares: the mean, and the curvature in random directions."""
    texture = world.exact_mean.clone().requires_grad_()

    def energy(theta: torch.Tensor) -> torch.Tensor:
        away = world.matrix @ theta - world.mean
        return away @ torch.linalg.solve(world.cov, away) / 2

    (slope,) = torch.autograd.grad(energy(texture), texture)
    assert float(slope.abs().max()) < 1e-9
    curvature = torch.autograd.functional.hessian(energy, texture.detach())
    assert torch.allclose(curvature @ world.exact_cov, torch.eye(len(texture), dtype=D), atol=1e-8)


def test_langevin_samples_a_texture_by_its_law(world):
    """200 textures at once, as channels of one: the law of the sampler's own steps and of the closed form.

    The mean's error and the covariance's by chance are the world's `chance`; four times that is exceeded with a
    probability far below 1e-3.
    """
    count = 200
    module = MeshTexture(*cube(), 6, 6, 6, channels=count, fovy=0.5, background=0.0).to(D)
    views = world.cameras

    def denoise(noisy: torch.Tensor, sigma: float, views: torch.Tensor) -> torch.Tensor:
        joint = noisy.movedim(1, 0).reshape(count, 1, 1, -1)
        return world.prior.denoise(joint, sigma).view(count, len(views), 6, 6).movedim(0, 1)

    pullback.sample(
        module, views, denoise, pullback.settling_sigmas(30, 0.05, 5.0), noise="independent",
        constraint=pullback.Langevin(iterations=16), solver=pullback.GaussNewton(1, 20),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    theta = module.texture.detach().flatten(1)
    errors, chance = world.errors(theta.mean(0), torch.cov(theta.T)), world.chance(count)
    law = world.errors(
        *propagate(world, pullback.Langevin(), schedule(pullback.Langevin(), pullback.settling_sigmas(30, 0.05, 5.0)))
    )
    for name in errors:
        assert errors[name] < law[name] + 4 * chance[name], (name, errors, law, chance)


def test_averaging_of_single_texels_samples_the_law_of_the_plain_flow(monkeypatch):
    """SyncTweedies' step where each pixel shows one texel; where it shows several, the law is another one."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "experiments"))
    from textures import Averaging

    generator, laws = torch.Generator().manual_seed(0), []
    world, root = GaussWorld("", 12, 4, samples=1), torch.randn(12, 12, generator=generator, dtype=D)
    single = torch.eye(4, dtype=D).repeat(3, 1)
    mixed = single * 0.6 + single.roll(1, 1) * 0.4
    visits = schedule(pullback.constraints.Constraint(), pullback.karras_sigmas(30, 0.05, 10.0))
    for matrix in (single, mixed):
        world._set("", matrix, torch.randn(12, generator=generator, dtype=D), root @ root.T, 1)
        for constraint in (pullback.constraints.Constraint(), Averaging(matrix)):
            laws.append(propagate(world, constraint, visits))
    (mean, cov), (same_mean, same_cov), (_, fine), (_, blurred) = laws
    assert torch.allclose(mean, same_mean, atol=1e-9) and torch.allclose(cov, same_cov, atol=1e-9)
    assert float((fine - blurred).norm() / fine.norm()) > 0.05


def test_bad_arguments_are_said():
    vertices, faces, coordinates = cube()
    with pytest.raises(pullback.errors.UserError, match=r"M at least 1, not \[0, 3\]"):
        MeshTexture(vertices, faces[:0], coordinates[:0])
    with pytest.raises(pullback.errors.UserError, match="fovy in"):
        MeshTexture(vertices, faces, coordinates, fovy=math.pi)
