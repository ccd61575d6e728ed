"""Smooth silhouettes against areas in closed form, and against the geometry in the plane in plain PyTorch."""

from __future__ import annotations

import brute_force
import pytest
import torch
from meshes import ball, seen
from pullback.errors import UserError

pytest.importorskip("warp")
from pullback.render.fused import smoothing
from pullback.render.rasterise import antialias, opposite, rasterise


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Two balls and a loose triangle, one before the other."""
    parts = [ball(5, 0.8), ball(4, 0.5, (0.6, 0.4, 0.9))]
    loose = torch.tensor([[-1.2, -0.9, -0.5], [0.9, -1.1, 1.2], [-0.3, 1.3, 0.2]])
    tri = torch.cat([parts[0][1], parts[1][1] + len(parts[0][0])])
    points = torch.cat([parts[0][0], parts[1][0], loose])
    return seen(points), torch.cat([tri, torch.tensor([[0, 1, 2]], dtype=torch.int32) + len(points) - 3])


def mask(pos: torch.Tensor, tri: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Smooth coverage [H, W]."""
    rast, _ = rasterise(pos[None], tri, (height, width))
    return antialias((rast[..., 3:] > 0).float(), rast, pos[None], tri)[0, ..., 0]


# ---- areas


def strip(pixels: torch.Tensor, width: int, height: int, w: torch.Tensor) -> torch.Tensor:
    """Positions [4, 4] of corners given in pixels [4, 2]."""
    flat = pixels / torch.tensor([width, height]) * 2 - 1
    return torch.cat([flat * w, 0 * w, w], 1)


def test_a_strip_across_the_picture_has_its_area_and_the_gradient_of_it():
    """Between two slanted edges, lower and upper ends beyond the picture, corners at different distances."""
    width, height = 40, 24
    pixels = torch.tensor([[9.3, -4.0], [21.8, -4.0], [27.1, 30.0], [14.6, 30.0]])
    w = torch.tensor([[1.0], [1.7], [0.8], [1.3]])
    tri = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    pixels.requires_grad_()
    picture = mask(strip(pixels, width, height, w), tri, height, width)

    def area(p: torch.Tensor) -> torch.Tensor:
        left = (p[3, 0] - p[0, 0]) / (p[3, 1] - p[0, 1])
        right = (p[2, 0] - p[1, 0]) / (p[2, 1] - p[1, 1])
        middle = height / 2
        return height * (p[1, 0] + right * (middle - p[1, 1]) - p[0, 0] - left * (middle - p[0, 1]))

    assert abs(float(picture.detach().sum() - area(pixels.detach()))) < 1e-3
    # each row as well, which is cut at the height of its centre
    y = torch.arange(height) + 0.5
    rows = 12.5 + (y + 4) * ((27.1 - 21.8) - (14.6 - 9.3)) / 34
    assert torch.allclose(picture.sum(1), rows, atol=1e-4)
    (gradient,) = torch.autograd.grad(picture.sum(), pixels)
    double = pixels.detach().double()
    h, steps = 1e-4, torch.eye(8, dtype=torch.float64).view(8, 4, 2)
    slopes = torch.stack([area(double + h * s) - area(double - h * s) for s in steps]).view(4, 2) / (2 * h)
    assert torch.allclose(gradient, slopes.float(), atol=2e-3)


def test_the_gradient_of_a_triangles_coverage_is_that_of_its_area():
    """Averaged over places of the pixels' grid; corners are the part that smoothing leaves out."""
    pixels = torch.tensor([[13.0, 11.0], [88.0, 31.0], [37.0, 86.0]])
    tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    total, gradient = [], torch.zeros(3, 2)
    shifts = torch.rand(16, 2, generator=torch.Generator().manual_seed(0))
    for shift in shifts:
        leaf = (pixels + shift).requires_grad_()
        picture = mask(strip(leaf, 100, 100, torch.ones(3, 1)), tri, 100, 100)
        gradient += torch.autograd.grad(picture.sum(), leaf)[0] / len(shifts)
        total.append(float(picture.detach().sum()))

    def area(p: torch.Tensor) -> torch.Tensor:
        a, b = p[1] - p[0], p[2] - p[0]
        return (a[0] * b[1] - a[1] * b[0]) / 2

    h, steps, double = 1e-3, torch.eye(6, dtype=torch.float64).view(6, 3, 2), pixels.double()
    slopes = torch.stack([area(double + h * s) - area(double - h * s) for s in steps]).view(3, 2) / (2 * h)
    assert abs(sum(total) / len(total) - float(area(double))) < 0.002 * float(area(double))
    assert float((gradient - slopes).norm()) < 0.03 * float(slopes.norm())


def test_smoothing_comes_nearer_to_the_area_of_a_ball():
    points, tri = ball(8)
    pos, size = seen(points), 48
    fine, _ = rasterise(pos[None], tri, (16 * size, 16 * size))
    area = (fine[0, ..., 3] > 0).float().view(size, 16, size, 16).mean((1, 3))
    sharp = (rasterise(pos[None], tri, (size, size))[0][0, ..., 3] > 0).float()
    error = [float((x - area).square().mean().sqrt()) for x in (mask(pos, tri, size, size), sharp)]
    assert error[0] < 0.6 * error[1], error


# ---- the reference


def test_pictures_and_gradients_are_those_of_the_plane():
    pos, tri = scene()
    pos = torch.stack([pos, pos * torch.tensor([-0.7, 0.8, 1, 1])])
    generator = torch.Generator().manual_seed(1)
    rast, _ = rasterise(pos, tri, (33, 41))
    colour = torch.randn(2, 33, 41, 3, generator=generator)
    weights = torch.randn(2, 33, 41, 3, generator=generator)
    leaves = colour.clone().requires_grad_(), pos.clone().requires_grad_()
    ours = antialias(leaves[0], rast, leaves[1], tri)
    doubles = colour.double().requires_grad_(), pos.double().requires_grad_()
    others = brute_force.opposite(tri)
    expected = torch.stack([
        brute_force.smooth(doubles[0][i], rast[i].double(), doubles[1][i], tri, others) for i in range(2)
    ])  # fmt: skip
    assert int(((expected - colour).abs().sum(-1) > 0).sum()) > 100
    assert torch.allclose(ours.double(), expected, atol=1e-5)
    gradients = torch.autograd.grad((ours * weights).sum(), leaves)
    right = torch.autograd.grad((expected * weights.double()).sum(), doubles)
    for g, r in zip(gradients, right, strict=True):
        assert float((g.double() - r).norm()) < 1e-4 * float(r.norm())
    assert float(gradients[1][..., 2].abs().max()) == 0  # depth does not move an edge


def test_edges_between_triangles_of_one_face_stay_sharp():
    pos = strip(torch.tensor([[2.3, 2.4], [12.6, 2.2], [12.1, 9.7], [2.2, 9.1]]), 16, 12, torch.ones(4, 1))[None]
    tri = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    rast, _ = rasterise(pos, tri, (12, 16))
    number = rast[..., 3:].clone()
    smooth = antialias(number, rast, pos, tri)
    inside = torch.zeros(12, 16, dtype=torch.bool)
    inside[3:9, 3:12] = True
    assert torch.equal(smooth[0, ..., 0][inside], number[0, ..., 0][inside])
    assert not torch.equal(smooth, number)
    apart = antialias(number, rast, pos[:, [0, 1, 2, 0, 2, 3]], torch.arange(6, dtype=torch.int32).view(2, 3))
    assert not torch.equal(apart[0, ..., 0][inside], number[0, ..., 0][inside])  # whose edges are silhouettes then


def test_the_corner_opposite_an_edge():
    _, tri = scene()
    assert torch.equal(opposite(tri).long(), brute_force.opposite(tri))
    # three triangles at one edge: the first of the others; the same triangle twice; corners that are equal or none
    strange = torch.tensor([[0, 1, 2], [1, 0, 3], [4, 0, 1], [5, 6, 7], [7, 6, 5], [8, 8, 9], [-1, 10, 11]])
    expected = torch.full((7, 3), -1)
    expected[0, 2], expected[1, 2], expected[2, 0] = 3, 2, 2
    assert torch.equal(opposite(strange.int()).long(), expected)


def test_pictures_are_the_same_to_the_bit_with_any_number_of_threads():
    pos, tri = scene()
    threads, whole = torch.get_num_threads(), None
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            leaf = pos[None].clone().requires_grad_()
            rast, _ = rasterise(leaf, tri, (50, 50))
            results = [opposite(tri), antialias((rast[..., 3:] > 0).float(), rast, leaf, tri)]
            first, second = (torch.autograd.grad(results[1].sum(), leaf, retain_graph=True)[0] for _ in range(2))
            assert torch.equal(first, second) and float(first.norm()) > 1
            whole = whole or results
            assert all(torch.equal(a, b) for a, b in zip(whole, results, strict=True))
    finally:
        torch.set_num_threads(threads)


def test_options_and_what_does_not_fit():
    pos, tri = scene()
    leaf = pos.clone().requires_grad_()
    ranges = torch.tensor([[0, len(tri)]], dtype=torch.int32)
    rast, _ = rasterise(leaf, tri, (30, 30), ranges)
    colour = (rast[..., 3:] > 0).float()
    gradients = []
    for options in ({}, {"others": opposite(tri)}, {"pos_gradient_boost": 3.0}):
        picture = antialias(colour, rast, leaf, tri, **options)
        gradients.append(torch.autograd.grad(picture.sum(), leaf)[0])
    assert torch.equal(gradients[0], gradients[1]) and torch.allclose(3 * gradients[0], gradients[2])
    with pytest.raises(UserError, match="`color` is"):
        antialias(colour[:, 1:], rast, leaf, tri)
    with pytest.raises(UserError, match="`others` is"):
        antialias(colour, rast, leaf, tri, opposite(tri[1:]))
    nothing = torch.zeros(1, 5, 5, 4)
    assert float(antialias(nothing, nothing, pos[None], tri[:0]).sum()) == 0


def test_the_operators_keep_pytorchs_rules():
    pos, tri = scene()
    rast, _ = rasterise(pos[None], tri, (20, 20))
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    leaves = torch.rand(1, 20, 20, 2).requires_grad_(), rast, pos[None].requires_grad_(), tri, opposite(tri), True
    torch.library.opcheck(smoothing.antialias, leaves, test_utils=checks)
    torch.library.opcheck(smoothing.opposite, (tri,), test_utils=checks)
