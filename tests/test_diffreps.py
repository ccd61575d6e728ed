"""Representations: adjoint derivatives, the pictures they must show, guards."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pullback import diffreps
from pullback.errors import UserError
from pullback.fitting.linearise import FlatRender

D = torch.float64
POSES = diffreps.orbit(torch.tensor([10.0, 35.0], dtype=D), torch.tensor([20.0, -130.0], dtype=D))


def build(name: str):
    torch.manual_seed(0)
    made = {
        "pixels": lambda: (diffreps.Pixels(2, 3, 4), [0, 0]),
        "pixels per view": lambda: (diffreps.Pixels(3, 2, 3, 4), [2, 0]),
        "linear": lambda: (diffreps.Linear(torch.randn(12, 5)), [0]),
        "linear per view": lambda: (diffreps.Linear(torch.randn(3, 1, 2, 3, 4)), [1, 2]),
        "siren": lambda: (diffreps.SirenImage(3, 5, 4, hidden=8, layers=2), [0]),
        "sirens": lambda: (diffreps.SirenImages(3, 3, 5, 4, hidden=8, layers=2), [2, 0]),
        "fourier": lambda: (diffreps.FourierImage(3, 5, 4, features=4, hidden=8, layers=1), [0]),
        "voxel": lambda: (diffreps.VoxelField(4, height=5, width=6, samples=7), POSES),
    }
    diffrep, views = made[name]()
    diffrep = diffrep.double()
    for p in diffrep.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return diffrep, views


NAMES = ["pixels", "pixels per view", "linear", "linear per view", "siren", "sirens", "fourier", "voxel"]


@pytest.mark.parametrize("name", NAMES)
def test_pull_is_the_adjoint_of_push(name):
    function = FlatRender(*build(name))
    render, push, pull = function.linearise(function.flat)
    v, w = torch.randn_like(function.flat), torch.randn_like(render)
    left, right = float((push(v) * w).sum()), float(v.dot(pull(w)))
    assert left == pytest.approx(right, rel=1e-10)
    assert abs(left) > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_push_is_the_derivative(name):
    function = FlatRender(*build(name))
    _, push, _ = function.linearise(function.flat)
    v, h = torch.randn_like(function.flat), 1e-7
    slope = (function(function.flat + h * v) - function(function.flat - h * v)) / (2 * h)
    assert torch.allclose(push(v), slope, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_writing_the_flat_vector_moves_the_render(name):
    diffrep, views = build(name)
    function = FlatRender(diffrep, views)
    target = function.flat + 0.1 * torch.randn_like(function.flat)
    expected = function(target)
    function.write(target)
    assert torch.equal(function.flat, target)
    assert torch.allclose(diffrep.render(views), expected, atol=1e-14)


def test_pixels_show_their_values():
    one = diffreps.Pixels(1, 2, 2)
    one.values.data.copy_(torch.arange(4.0).view(1, 2, 2))
    assert torch.equal(one.render(range(3)), one.values.expand(3, 1, 2, 2))
    many = diffreps.Pixels(3, 1, 2, 2)
    many.values.data.copy_(torch.arange(12.0).view(3, 1, 2, 2))
    assert torch.equal(many.render([2, 0]), many.values[[2, 0]])


def test_linear_is_its_matrix():
    matrix = torch.randn(3, 2, 4, 5, 6)
    rep = diffreps.Linear(matrix)
    rep.theta.data.normal_()
    expected = torch.einsum("chwn,n->chw", matrix[2], rep.theta)
    assert torch.allclose(rep.render([1, 2])[1], expected, atol=1e-6)
    assert diffreps.Linear(matrix[0, 0, 0]).render([0]).shape == (1, 1, 1, 5)


def test_siren_starts_with_features_of_unit_scale():
    torch.manual_seed(0)
    rep: Any = diffreps.SirenImage(3, 32, 32, hidden=256, layers=3)
    features, spreads = rep.coordinates, []
    for layer in rep.network.sines:
        features = torch.sin(rep.network.omega * layer(features))
        spreads.append(features.std().item())
    # the initialisation keeps an arcsine distribution, whose standard deviation is 1/√2, at every depth
    assert spreads == pytest.approx([math.sqrt(0.5)] * 3, abs=0.05)


def test_siren_pixels_are_centred():
    rep = diffreps.SirenImage(1, 2, 4, hidden=4, layers=1)
    assert torch.allclose(rep.coordinates[0, 0], torch.tensor([-0.75, -0.5]))
    assert torch.allclose(rep.coordinates.mean((0, 1)), torch.zeros(2))


def test_images_of_coordinates_are_shown_at_any_resolution():
    """A picture three times as large has the small one's pixels at the centres of its 3 × 3 blocks."""
    sirens = diffreps.SirenImages(2, 3, 4, 6, hidden=8, layers=2)
    for small, large in [
        *((r.render([0])[0], r.image(12, 18)) for r in (diffreps.SirenImage(3, 4, 6), diffreps.FourierImage(3, 4, 6))),
        (sirens.render([1])[0], sirens.images(12, 18)[1]),
    ]:  # fmt: skip
        assert torch.allclose(large[:, 1::3, 1::3], small, atol=1e-5)


def test_many_sirens_at_once_are_the_single_ones():
    """The same pictures and, for every image, the gradient of its own fit."""
    torch.manual_seed(3)
    single = [diffreps.SirenImage(3, 5, 4, hidden=8, layers=2).double() for _ in range(3)]
    torch.manual_seed(3)
    many = diffreps.SirenImages(3, 3, 5, 4, hidden=8, layers=2).double()
    target = torch.randn(2, 3, 5, 4, dtype=D)
    assert torch.allclose(many.render([2, 0]), torch.cat([single[2].render([0]), single[0].render([0])]), atol=1e-12)
    (many.render([2, 0]) - target).square().sum().backward()
    for i, wanted in ((2, target[:1]), (0, target[1:])):
        (single[i].render([0]) - wanted).square().sum().backward()
        network: Any = single[i].network
        for layer, weight, bias in zip([*network.sines, network.last], many.weights, many.biases, strict=True):
            assert torch.allclose(weight.grad[i].T, layer.weight.grad, atol=1e-10)
            assert torch.allclose(bias.grad[i, 0], layer.bias.grad, atol=1e-10)
    assert all(p.grad is not None and not p.grad[1].any() for p in many.parameters())


def test_sirens_are_fitted_on_random_pixels_without_bias():
    torch.manual_seed(0)
    rep, target = (
        diffreps.SirenImages(2, 3, 4, 4, hidden=8, layers=1, rays=512).double(),
        torch.randn(2, 3, 4, 4).double(),
    )
    whole = (rep.render([0, 1]) - target).square().mean()
    some = rep.residual([0, 1], target, torch.Generator().manual_seed(0))
    assert some.shape == (2, 512, 3)
    # 512 of 16 pixels: the mean of squares is within 5 of its standard errors, which the pixels' own spread gives
    spread = (rep.render([0, 1]) - target).square().mean((0, 1)).std() / 512**0.5
    assert abs(some.square().mean() - whole) < 5 * spread


def test_fourier_features_are_the_seeds_and_travel_with_the_weights():
    first, second = (diffreps.FourierImage(3, 4, 4, seed=seed) for seed in (1, 2))
    assert torch.equal(first.network.frequencies, diffreps.FourierImage(3, 4, 4, seed=1).network.frequencies)
    assert not torch.equal(first.network.frequencies, second.network.frequencies)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.render([0]), second.render([0]))
    # one feature and a linear layer: cos(πbx) and sin(πbx), b periods over the two units of [−1, 1]
    features = diffreps.FourierFeatures(1, 1, features=1)
    seen: list[torch.Tensor] = []
    features.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    points = torch.tensor([[-0.3], [0.8]])
    features(points)
    angle = math.pi * points * features.frequencies
    assert torch.allclose(seen[0], torch.cat([angle.cos(), angle.sin()], -1))


def test_orbit_looks_at_the_origin_with_z_up():
    pose = diffreps.orbit(torch.tensor([0.0, 0.0, 30.0]), torch.tensor([0.0, 90.0, 45.0]), distance=2.5)
    assert torch.allclose(pose[0, :3, 3], torch.tensor([2.5, 0, 0]), atol=1e-6)
    assert torch.allclose(pose[1, :3, 3], torch.tensor([0, 2.5, 0]), atol=1e-6)
    assert torch.allclose(pose[0, :3, 0], torch.tensor([0.0, 1, 0]), atol=1e-6)  # right of the camera at +x: +y
    rotation = pose[:, :3, :3]
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3).expand(3, 3, 3), atol=1e-6)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(3), atol=1e-6)
    assert torch.allclose(pose[:, :3, 3], 2.5 * rotation[:, :, 2], atol=1e-6)
    assert bool((rotation[:, 2, 1] > 0).all())


def field(**sizes) -> diffreps.VoxelField:
    return diffreps.VoxelField(**{"resolution": 9, "height": 17, "width": 17, "samples": 64, **sizes}).double()


@pytest.mark.parametrize("background", [1.0, -0.25])
def test_an_empty_field_shows_its_background(background):
    rep = field(background=background)
    rep.density.data.fill_(-60)
    assert torch.allclose(rep.render(POSES), torch.full((2, 3, 17, 17), background, dtype=D), atol=1e-12)


def test_fog_absorbs_exponentially():
    rep = field(background=1.0)
    rep.density.data.fill_(-3.0)
    pose = diffreps.orbit(torch.zeros(1, dtype=D), torch.zeros(1, dtype=D))
    through = math.exp(-2 * 10 * math.log1p(math.exp(-3.0)))  # two units of way through the cube
    assert float(rep.render(pose)[0, 0, 8, 8].detach()) == pytest.approx(through, rel=1e-9)


def test_the_field_is_seen_from_the_right_side():
    rep = field(background=1.0)
    rep.density.data.fill_(5.0)
    x = torch.linspace(-1, 1, 9, dtype=D)
    position = torch.stack(torch.meshgrid(x, x, x, indexing="ij"), -1).reshape(-1, 3)
    rep.colour.data.copy_(3 * position)  # red grows with x, green with y, blue with z
    front, side = rep.render(diffreps.orbit(torch.zeros(2, dtype=D), torch.tensor([0.0, 90.0], dtype=D)))
    assert front[0, 8, 8] > 0.9 and abs(front[1, 8, 8]) < 0.1  # from +x: red
    assert side[1, 8, 8] > 0.9 and abs(side[0, 8, 8]) < 0.1  # from +y: green
    assert front[1, 8, 11] > front[1, 8, 5] + 0.3  # +y lies to the right of the camera at +x
    assert front[2, 5, 8] > front[2, 11, 8] + 0.3  # z is up, row 0 on top


def test_the_lookup_is_trilinear():
    rep = field(resolution=4)
    x = torch.linspace(-1, 1, 4, dtype=D)
    a, b, c = torch.meshgrid(x, x, x, indexing="ij")

    def function(a, b, c):
        return 1 + a - 2 * b + 3 * c + a * b - b * c + 0.5 * a * b * c

    points = 2 * torch.rand(50, 3, dtype=D) - 1
    found = rep._lookup(points, function(a, b, c).reshape(-1, 1))
    assert torch.allclose(found[:, 0], function(*points.T), atol=1e-12)


@pytest.mark.parametrize("make", [
    lambda: diffreps.Pixels(3, 4), lambda: diffreps.Pixels(0, 4, 4), lambda: diffreps.Linear(torch.zeros(3)),
    lambda: diffreps.SirenImage(3, 0, 4), lambda: diffreps.SirenImage(3, 4, 4, omega=0),
    lambda: diffreps.SirenImages(0, 3, 4, 4), lambda: diffreps.SirenImages(1, 3, 4, 4, rays=0),
    lambda: diffreps.FourierImage(3, 4, 4, features=0), lambda: diffreps.FourierFeatures(2, 3, bandwidth=-1.0),
    lambda: diffreps.VoxelField(1), lambda: diffreps.VoxelField(fovy=4.0),
])  # fmt: skip
def test_impossible_sizes_are_refused(make):
    with pytest.raises(UserError):
        make()
