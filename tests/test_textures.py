"""Textures against PyTorch's grid_sample and closed forms."""

from __future__ import annotations

import pytest
import torch
from pullback.errors import UserError
from torch.nn.functional import grid_sample

pytest.importorskip("warp")
from pullback.render.fused import sampling
from pullback.render.textures import construct_mip, texture


def places(*shape: int, seed: int = 1, reach: float = 1.6) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.5) * 2 * reach + 0.5


def texels(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sampled(tex: torch.Tensor, uv: torch.Tensor, boundary: str, mode: str) -> torch.Tensor:
    """The same by grid_sample, a wrapped texture by nine copies of it."""
    if boundary == "wrap":
        tex, uv = tex.repeat(1, 3, 3, 1), (uv - uv.detach().floor() + 1) / 3
    padding = "border" if boundary == "clamp" else "zeros"
    tex = tex.expand(len(uv), *tex.shape[1:])
    return grid_sample(tex.movedim(-1, 1), uv * 2 - 1, mode, padding, align_corners=False).movedim(1, -1)


@pytest.mark.parametrize("boundary", ["wrap", "clamp", "zero"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("images", [1, 2])
def test_values_and_gradients_are_those_of_grid_sample(boundary, mode, images):
    tex, uv = texels(images, 5, 7, 3).requires_grad_(), places(2, 20, 30, 2).requires_grad_()
    ours = texture(tex, uv, filter_mode=mode, boundary_mode=boundary)
    doubles = tex.detach().double().requires_grad_(), uv.detach().double().requires_grad_()
    right = sampled(*doubles, boundary, "bilinear" if mode == "linear" else mode)
    assert ours.shape == (2, 20, 30, 3) and torch.allclose(ours.double(), right, atol=2e-5)
    weights = texels(2, 20, 30, 3, seed=4)
    gradients = torch.autograd.grad((ours * weights).sum(), (tex, uv))
    expected = torch.autograd.grad((right * weights.double()).sum(), doubles)
    for g, e in zip(gradients, expected, strict=True):
        assert torch.allclose(g.double(), e, atol=2e-4)


def test_texels_lie_half_a_texel_inside():
    tex = torch.arange(4.0).view(1, 2, 2, 1)
    uv = torch.tensor([[[[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.5, 0.5], [0.0, 0.25]]]])
    assert texture(tex, uv).flatten().tolist() == [0, 1, 2, 1.5, 0.5]
    assert texture(tex, uv, boundary_mode="clamp").flatten()[-1] == 0


# ---- mipmaps


def test_a_mipmap_has_the_means_of_four_texels():
    tex = texels(2, 8, 4, 3)
    levels = construct_mip(tex)
    assert [tuple(level.shape[1:3]) for level in levels] == [(4, 2), (2, 1), (1, 1)]
    assert torch.allclose(levels[0][:, 0, 0], tex[:, :2, :2].mean((1, 2)), atol=1e-6)
    assert torch.allclose(levels[2][:, 0, 0], tex.mean((1, 2)), atol=1e-6)
    assert len(construct_mip(tex, 2)) == 2
    with pytest.raises(UserError, match=r"6 × 4 has no mipmap after 3 × 2; .* `max_mip_level` to at most 1"):
        construct_mip(tex[:, :6])


@pytest.mark.parametrize("mode", ["linear-mipmap-linear", "linear-mipmap-nearest"])
def test_levels_are_mixed_as_their_number_says(mode):
    tex, uv, bias = texels(1, 8, 8, 2).requires_grad_(), places(1, 6, 9, 2), places(1, 6, 9, reach=3) + 1
    ours = texture(tex, uv, mip_level_bias=bias, filter_mode=mode)
    stack = [tex, *construct_mip(tex)]
    each = torch.stack([texture(level, uv) for level in stack])
    number = bias.clamp(0, 3)
    low = number.floor().long()
    part = (number - low)[..., None] * (mode == "linear-mipmap-linear")
    pick = [each.gather(0, k[None, ..., None].expand(1, 1, 6, 9, 2))[0] for k in (low, (low + 1).clamp(max=3))]
    expected = pick[0] * (1 - part) + pick[1] * part
    assert torch.allclose(ours, expected, atol=1e-6)
    weights = texels(1, 6, 9, 2, seed=3)
    gradients = [torch.autograd.grad((x * weights).sum(), tex, retain_graph=True)[0] for x in (ours, expected)]
    assert torch.allclose(*gradients, atol=1e-5)


def test_the_level_is_that_of_the_longer_axis_of_the_footprint():
    """A pixel of 4 × 2 texels, turned in the texture by any angle."""
    tex, uv = texels(1, 64, 64, 1), torch.full((1, 1, 8, 2), 0.3)
    angle = torch.linspace(0, 3, 8)[None, None]
    long, short = 4 / 64, 2 / 64
    slopes = torch.stack([angle.cos() * long, -angle.sin() * short, angle.sin() * long, angle.cos() * short], -1)
    assert torch.allclose(texture(tex, uv, slopes), texture(construct_mip(tex)[1], uv), atol=1e-5)
    assert torch.allclose(texture(tex, uv, slopes / 8), texture(tex, uv), atol=1e-6)  # finer than texels
    twice = texture(tex, uv, slopes, mip_level_bias=torch.ones(1, 1, 8))
    assert torch.allclose(twice, texture(construct_mip(tex)[2], uv), atol=1e-5)
    assert torch.equal(texture(tex, uv, slopes, max_mip_level=0), texture(tex, uv))


def test_gradients_of_footprints_and_levels_are_slopes():
    tex, uv = texels(1, 16, 16, 2), places(1, 5, 6, 2, reach=0.4)
    slopes = (texels(1, 5, 6, 4, seed=2) * 0.2).requires_grad_()
    bias = (texels(1, 5, 6, seed=3) * 0.3).requires_grad_()
    weights = texels(1, 5, 6, 2, seed=5)

    def loss(s: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (texture(tex, uv, s, b) * weights).sum(-1).double()

    gradients = torch.autograd.grad(loss(slopes, bias).sum(), (slopes, bias))
    h, direction = 1e-3, (texels(1, 5, 6, 4, seed=6) * 0.1, texels(1, 5, 6, seed=7))
    with torch.no_grad():
        more, less = (loss(slopes + h * k * direction[0], bias + h * k * direction[1]) for k in (1, -1))
    found = (gradients[0] * direction[0]).sum(-1) + gradients[1] * direction[1]
    wrong = (found - (more - less).float() / (2 * h)).abs() > 0.02 * (1 + found.abs())
    assert int(wrong.sum()) <= 1  # where a level is passed between


def test_a_stack_of_ones_own_has_gradients_of_its_own():
    tex, uv = texels(1, 4, 4, 1).requires_grad_(), places(1, 3, 3, 2)
    mip = [texels(1, 2, 2, 1, seed=1).requires_grad_()]
    texture(tex, uv, mip_level_bias=torch.full((1, 3, 3), 5.0), mip=mip).sum().backward()
    assert tex.grad is not None and float(tex.grad.abs().sum()) == 0 and abs(float(mip[0].grad.sum()) - 9) < 1e-5


# ---- cube maps


def directions(side: int) -> torch.Tensor:
    """Of the texels of a cube map, [6, side, side, 3], by OpenGL's table of faces."""
    t, s = torch.meshgrid(*[(2 * torch.arange(side) + 1) / side - 1] * 2, indexing="ij")
    one = torch.ones_like(s)
    faces = [(one, -t, -s), (-one, -t, s), (s, one, t), (s, -one, -t), (s, -t, one), (-s, -t, -one)]
    return torch.stack([torch.stack(face, -1) for face in faces])


@pytest.mark.parametrize("side", [1, 2, 5])
def test_directions_of_texels_show_the_texels(side):
    tex = texels(1, 6, side, side, 2)
    uv = directions(side).view(1, -1, side, 3) * 3.7
    for mode in ("nearest", "linear"):
        shown = texture(tex, uv, filter_mode=mode, boundary_mode="cube").view(1, 6, side, side, 2)
        assert torch.allclose(shown, tex, atol=1e-5)


def test_a_cube_map_has_no_seams():
    """Of a smooth function of the direction; across all edges and corners the picture is continuous and near it."""

    def smooth(d: torch.Tensor) -> torch.Tensor:
        unit = torch.nn.functional.normalize(d, dim=-1)
        return torch.stack([unit[..., 0], unit[..., 1] * unit[..., 2], unit.sum(-1).square()], -1)

    tex = smooth(directions(32))[None]
    generator = torch.Generator().manual_seed(0)
    uv = torch.randn(1, 100, 100, 3, generator=generator)
    edge = torch.randn(1, 100, 100, 3, generator=generator).sign() * (0.97 + 0.06 * torch.rand(1, 100, 100, 3))
    for d in (uv, edge, edge * torch.tensor([1.0, 0.3, 1])):
        assert float((texture(tex, d, boundary_mode="cube") - smooth(d)).abs().max()) < 0.03
    nothing = torch.tensor([[[[0.0, 0, 0], [torch.nan, 1, 0]]]], requires_grad=True)
    shown = texture(tex, nothing, boundary_mode="cube")
    shown.sum().backward()
    assert float(shown.detach().abs().sum()) == 0 and float(nothing.grad.abs().sum()) == 0


def test_gradients_of_a_cube_map_are_slopes():
    tex = texels(1, 6, 4, 4, 2).requires_grad_()
    uv = places(1, 12, 12, 3, reach=2).requires_grad_()
    weights = texels(1, 12, 12, 2, seed=8)

    def loss(t: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return (texture(t, d, boundary_mode="cube") * weights).sum(-1).double()

    by_tex, by_uv = torch.autograd.grad(loss(tex, uv).sum(), (tex, uv))
    direction = texels(1, 12, 12, 3, seed=9)
    h = 3e-4
    with torch.no_grad():
        slope = ((loss(tex, uv + h * direction) - loss(tex, uv - h * direction)) / (2 * h)).float()
        change = texels(*tex.shape, seed=10)
        whole = float((loss(tex + change, uv) - loss(tex, uv)).sum())  # it is linear in the texels
    found = (by_uv * direction).sum(-1)
    assert int(((found - slope).abs() > 0.02 * (1 + slope.abs())).sum()) <= 4  # between texels the slope jumps
    assert abs(float((by_tex * change).sum()) - whole) < 1e-4 * abs(whole)


def test_levels_of_a_cube_map_follow_its_faces():
    """A direction that turns by the angle of two texels, in the middle of each face."""
    tex, step = texels(1, 6, 32, 32, 1), 2 * 2 / 32
    d = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]) * 2
    across = d.roll(1, 1).abs() * step
    slopes = torch.stack([across, d.roll(2, 1).abs() * step / 3], -1).flatten(1)
    shown = texture(tex, d[None, None] + 0.2, slopes[None, None], boundary_mode="cube", filter_mode="auto")
    level = construct_mip(tex, 1, True)[0]
    expected = texture(level, d[None, None] + 0.2, boundary_mode="cube")
    finer = texture(tex, d[None, None] + 0.2, boundary_mode="cube")
    assert float((shown - expected).abs().max()) < 0.2 * float((finer - expected).abs().max())


# ---- the rest


def test_what_does_not_fit_is_said():
    tex, uv = texels(1, 4, 4, 1), places(1, 2, 2, 2)
    for arguments, words in [
        ({"boundary_mode": "mirror"}, "wrap, clamp, zero, cube"),
        ({"filter_mode": "cubic"}, "linear-mipmap-linear"),
        ({"boundary_mode": "cube"}, r"\[N, H, W, 3\] float32"),
        ({"filter_mode": "linear-mipmap-linear"}, "needs `uv_da` or `mip_level_bias`"),
    ]:
        with pytest.raises(UserError, match=words):
            texture(tex, uv, **arguments)


def test_lookups_are_the_same_to_the_bit_with_any_number_of_threads():
    tex, uv = texels(1, 9, 9, 3), places(1, 40, 40, 2)
    threads = torch.get_num_threads()
    try:
        results = []
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(texture(tex, uv))
        assert all(torch.equal(x, results[0]) for x in results)
    finally:
        torch.set_num_threads(threads)


def test_the_operator_keeps_pytorchs_rules():
    levels = torch.tensor([[0, 3, 3], [9, 1, 1]], dtype=torch.int32)
    arguments = texels(1, 10, 2).requires_grad_(), levels, places(1, 4, 4, 2), torch.rand(1, 4, 4), 0, False
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(sampling.look_up, arguments, test_utils=checks)
