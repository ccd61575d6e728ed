"""The rasteriser against closed forms, and against plain PyTorch that tries every triangle at every pixel."""

from __future__ import annotations

import brute_force
import pytest
import torch
from pullback.errors import UserError

wp = pytest.importorskip("warp")
from pullback.render.fused import attributes, raster  # noqa: E402
from pullback.render.rasterise import interpolate, rasterise  # noqa: E402


def numbers(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def corners(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.detach().double() - b.detach().double()).norm() / b.detach().double().norm())


def soup(count: int, seed: int, size: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Random triangles [3·count, 4] and their corners; a third has corners behind the eye."""
    generator = torch.Generator().manual_seed(seed)
    middle = (torch.rand(count, 1, 3, generator=generator) - 0.5) * 3
    point = middle + torch.randn(count, 3, 3, generator=generator) * size
    w = (
        0.3
        + 2 * torch.rand(count, 3, 1, generator=generator)
        - (torch.rand(count, 1, 1, generator=generator) < 0.3) * 1
    )
    pos = torch.cat([point * w.abs(), w], -1).view(-1, 4)
    return pos, torch.arange(3 * count, dtype=torch.int32).view(-1, 3)


# ---- coverage


def test_a_right_triangle_covers_the_pixels_below_its_diagonal():
    pos = numbers([[-1, -1, 0, 1], [1, -1, 0, 1], [-1, 1, 0, 1], [1, 1, 0, 1]])
    x, y = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="xy")
    lower, _ = rasterise(pos[None], corners([[0, 1, 2]]), (8, 8))
    assert torch.equal(lower[0, ..., 3] > 0, x + y < 7)  # centres on the diagonal belong to the triangle on the right
    both, _ = rasterise(pos[None], corners([[0, 1, 2], [1, 3, 2]]), (8, 8))
    assert torch.equal(both[0, ..., 3], torch.where(x + y < 7, 1.0, 2.0))
    # the first corner has (u, v) = (1, 0), the second (0, 1); row 0 is the lowest
    u, v = 1 - (x + y + 1) / 8, (x + 0.5) / 8
    assert torch.allclose(torch.where(x + y < 7, lower[0, ..., 0], u), u, atol=1e-7)
    assert torch.allclose(torch.where(x + y < 7, lower[0, ..., 1], v), v, atol=1e-7)


def test_the_nearest_is_seen_and_nothing_outside_the_planes():
    flat = numbers([[-1, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]])

    def at(*depths: float) -> torch.Tensor:
        pos = torch.cat([flat + numbers([[0, 0, z, 0]]) for z in depths])
        tri = torch.arange(3 * len(depths), dtype=torch.int32).view(-1, 3)
        return rasterise(pos[None], tri, (3, 5))[0][0]

    assert bool((at(0.5, -0.25, 0.1)[..., 3] == 2).all()) and bool((at(0.5, -0.25, 0.1)[..., 2] == -0.25).all())
    assert bool((at(0.5, 0.5)[..., 3] == 1).all())  # of two at one depth the first
    assert bool((at(1.5, -1.5, 0.9)[..., 3] == 3).all())
    assert bool((at(1.5, -1.5) == 0).all())


def test_random_triangles_are_where_every_pixel_finds_them():
    """A hundred thousand triangles, in pictures of 200."""
    images, each, height, width = 500, 200, 20, 28
    pos, tri = soup(images * each, seed=0)
    ranges = torch.stack([torch.arange(images) * each, torch.full((images,), each)], 1).int()
    rast, _ = rasterise(pos, tri, (height, width), ranges)
    double, crossing = pos.double(), 0
    for i in range(images):
        part = tri[i * each : (i + 1) * each]
        number, depth, layers = brute_force.visible(double, part, height, width)
        ours = rast[i].view(-1, 4)
        same = ours[:, 3] == number + (number > 0) * i * each
        assert bool((same | ((ours[:, 2] - depth).abs() < 1e-6)).all()) and int((~same).sum()) <= 1  # a tie
        assert torch.allclose(ours[:, 2][number > 0], depth[number > 0].float(), atol=1e-6)
        crossing += int(layers.sum())
    assert crossing > 5e5


@pytest.mark.parametrize("perspective", [False, True])
def test_a_mesh_covers_each_pixel_exactly_once(perspective):
    """Every triangle has a picture of its own; with many corners and edges exactly at centres of pixels."""
    generator, n, size = torch.Generator().manual_seed(1), 9, 64
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1.25, 1.25, n)] * 2, indexing="ij"), -1).view(-1, 2)
    jittered = grid + (torch.rand(grid.shape, generator=generator) - 0.5) * 0.2
    half = len(grid) // 2
    jittered[:half] = (((jittered[:half] + 1) * size / 2 - 0.5).round() + 0.5) * 2 / size - 1  # to centres
    w = 0.5 + torch.rand(len(grid), 1, generator=generator) if perspective else torch.ones(len(grid), 1)
    pos = torch.cat([jittered * w, 0 * w, w], 1)
    at = torch.arange((n - 1) * n).view(n - 1, n)[:, :-1].reshape(-1)
    tri = torch.cat([torch.stack([at, at + 1, at + n], 1), torch.stack([at + 1, at + n + 1, at + n], 1)]).int()
    tri = torch.where((torch.arange(len(tri)) % 3 == 0)[:, None], tri.flip(1), tri)  # both ways round
    ranges = torch.stack([torch.arange(len(tri)), torch.ones(len(tri))], 1).int()
    rast, _ = rasterise(pos, tri, (size, size), ranges)
    layers = (rast[..., 3] > 0).sum(0)
    assert bool((layers == 1).all())


def test_images_of_both_modes_are_those_of_one_at_a_time():
    pos, tri = soup(60, seed=2)
    other, _ = soup(60, seed=3)
    together, _ = rasterise(torch.stack([pos, other]), tri, (17, 23))
    assert torch.equal(together[1:], rasterise(other[None], tri, (17, 23))[0])
    ranges = torch.tensor([[0, 60], [20, 25], [5, 0]], dtype=torch.int32)
    ranged, _ = rasterise(pos, tri, (17, 23), ranges)
    assert torch.equal(ranged[0], together[0]) and float(ranged[2].abs().max()) == 0
    part = rasterise(pos[None], tri[20:45].contiguous(), (17, 23))[0][0]
    part[..., 3] += 20 * (part[..., 3] > 0)
    assert torch.equal(ranged[1], part)


def test_a_picture_is_the_same_to_the_bit_with_any_number_of_threads():
    pos, tri = soup(400, seed=4)
    threads, whole = torch.get_num_threads(), None
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            leaf = pos[None].clone().requires_grad_()
            results = []
            for _ in range(2):
                rast, slopes = rasterise(leaf, tri, (60, 50))
                loss = rast[..., :2].square().sum() + slopes.clamp(-1, 1).square().sum()
                results.append((rast, slopes, torch.autograd.grad(loss, leaf)[0]))
            assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
            whole = whole or results[0]
            assert torch.equal(whole[0], results[0][0]) and torch.equal(whole[1], results[0][1])
    finally:
        torch.set_num_threads(threads)


# ---- values


def test_attributes_are_those_of_the_plane_in_space_under_perspective():
    """A tilted square before a pinhole: the ray of a pixel meets the plane z = 3 + y/2 in closed form."""
    square = numbers([[-2, -2, 2], [2, -2, 2], [2, 2, 4], [-2, 2, 4]])  # x, y, distance
    near, far = 1.0, 10.0
    z = (square[:, 2:] * (far + near) - 2 * far * near) / (far - near)
    pos = torch.cat([square[:, :2] * 1.2, z, square[:, 2:]], 1)[None]
    tri = corners([[0, 1, 2], [0, 2, 3]])
    rast, _ = rasterise(pos, tri, (31, 41))
    values, none = interpolate(square[None], rast, tri)
    x = brute_force.centres(31, 41, torch.zeros(1, dtype=torch.float64)).view(31, 41, 3)
    across, up = x[..., 0] / 1.2, x[..., 1] / 1.2
    distance = 3 / (1 - up / 2)
    expected = torch.stack([across * distance, up * distance, distance], -1)
    inside = (expected[..., :2].abs() < 2).all(-1)
    assert torch.equal(rast[0, ..., 3] > 0, inside) and none.shape == (1, 31, 41, 0)
    assert torch.allclose(values[0][inside].double(), expected[inside], atol=1e-5)
    assert float(values[0][~inside].abs().sum()) == 0
    depth = (far + near - 2 * far * near / distance) / (far - near)
    assert torch.allclose(rast[0, ..., 2][inside].double(), depth[inside], atol=1e-6)


def test_derivatives_by_the_pixel_are_those_between_pixels_where_nothing_is_tilted():
    pos = numbers([[-1, -1, 0, 1], [5, -1, 0, 1], [-1, 4, 0, 1]])[None]
    tri, attr = corners([[0, 1, 2]]), torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    rast, slopes = rasterise(pos, tri, (6, 9))
    values, derivatives = interpolate(attr, rast, tri, slopes, [2, 0])
    for k, attribute in enumerate((2, 0)):
        v = values[0, ..., attribute]
        assert torch.allclose(derivatives[0, :, :-1, 2 * k], v[:, 1:] - v[:, :-1], atol=1e-5)
        assert torch.allclose(derivatives[0, :-1, :, 2 * k + 1], v[1:] - v[:-1], atol=1e-5)
    assert interpolate(attr, rast, tri, slopes, "all")[1].shape == (1, 6, 9, 8)


@pytest.mark.parametrize("shared", [False, True])
def test_values_and_gradients_are_those_of_autograd_in_double_precision(shared):
    """Triangles of many pixels, some with corners behind the eye; random weights of all results in the loss."""
    generator = torch.Generator().manual_seed(5)
    pos, tri = soup(40, seed=6, size=1.0)
    pos = torch.stack([pos, pos.roll(1, 1)[:, [1, 2, 0, 3]]])
    attr = torch.randn(1 if shared else 2, pos.shape[1], 3, generator=generator)
    weights = torch.randn(2, 24 * 30, 4 + 4 + 3 + 4, generator=generator)
    leaves = pos.clone().requires_grad_(), attr.clone().requires_grad_()
    rast, slopes = rasterise(leaves[0], tri, (24, 30))
    values, derivatives = interpolate(leaves[1], rast, tri, slopes, [0, 2])
    ours = torch.cat([rast, slopes, values, derivatives], -1).view(2, -1, 15)

    doubles = pos.double().requires_grad_(), attr.double().requires_grad_()
    expected = []
    for i in range(2):
        number = rast[i, ..., 3].view(-1).long()
        r, s = brute_force.coordinates(doubles[0][i], tri, number, 24, 30)
        a = doubles[1][0 if shared else i]
        d = brute_force.blend(a, r, tri, s)[:, [0, 2]].flatten(1)
        expected.append(torch.cat([r, s, brute_force.blend(a, r, tri), d], 1))
    expected = torch.stack(expected)
    assert relative(ours, expected) < 1e-6
    gradients = torch.autograd.grad((ours * weights).sum(), leaves)
    right = torch.autograd.grad((expected * weights.double()).sum(), doubles)
    # a triangle seen nearly from its edge has most of the norm of all, so each is compared by itself
    for g, r in zip(gradients, right, strict=True):
        error, size = (x.view(-1, 3, x.shape[-1]).norm(dim=(1, 2)) for x in (g.double() - r, r))
        assert float((error / (size + 1e-3)).max()) < 1e-4


def test_the_gradient_is_the_slope_of_the_loss():
    pos, tri = numbers([[-0.9, -0.8, 0.1, 1.1], [0.9, -0.7, 0, 0.8], [0.1, 0.9, 0.2, 1.4]])[None], corners([[0, 1, 2]])
    shown = rasterise(pos, tri, (16, 16))[0][..., 3] > 0
    attr = numbers([[1.0], [-2.0], [0.5]])
    direction = torch.randn(pos.shape, generator=torch.Generator().manual_seed(3))

    def loss(p: torch.Tensor) -> torch.Tensor:
        rast, _ = rasterise(p, tri, (16, 16))
        inner = (rast[..., 3] > 0) & shown
        return (interpolate(attr, rast, tri)[0][..., 0].square() * inner).double()

    leaf = pos.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    h = 1e-3
    more, less = loss(pos + h * direction), loss(pos - h * direction)
    both = (more > 0) & (less > 0)  # pixels that the triangle keeps
    (gradient,) = torch.autograd.grad((loss(leaf) * both).sum(), leaf)
    slope = float(((more - less) * both).sum()) / (2 * h)
    assert int(both.sum()) > 60 and abs(float((gradient * direction).sum()) - slope) < 2e-3 * abs(slope)


def test_slivers_have_bounded_gradients():
    """A triangle a millionth of a pixel wide through a pixel's centre."""
    pos = numbers([[-0.9, 0.125, 0, 1], [0.9, 0.125, 0, 1], [0.9, 0.125 + 1e-7, 0, 1]])[None].requires_grad_()
    rast, slopes = rasterise(pos, corners([[0, 1, 2]]), (8, 8))
    (rast[..., :2].sum() + slopes.sum() * 1e-6).backward()
    assert pos.grad is not None and bool(pos.grad.isfinite().all()) and float(pos.grad.abs().max()) < 1e8


# ---- what it refuses, and how it compiles


def test_what_does_not_fit_is_said():
    pos, tri = soup(2, seed=0)
    with pytest.raises(UserError, match=r"`pos` is \[6, 4\] torch.float32; it should be \[·, ·, 4\] torch.float32"):
        rasterise(pos, tri, (4, 4))
    with pytest.raises(UserError, match=r"`tri` is .* torch\.int64; it should be .* torch\.int32"):
        rasterise(pos[None], tri.long(), (4, 4))
    with pytest.raises(UserError, match="goes beyond the 2 triangles"):
        rasterise(pos, tri, (4, 4), torch.tensor([[1, 2]], dtype=torch.int32))
    with pytest.raises(UserError, match="0 × 4 pixels"):
        rasterise(pos[None], tri, (0, 4))
    rast, _ = rasterise(pos[None], tri, (4, 4))
    with pytest.raises(UserError, match="`attr` is of 2 images and `rast` of 1"):
        interpolate(torch.zeros(2, 6, 1), rast, tri)
    with pytest.raises(UserError, match="give `rast_db`"):
        interpolate(torch.zeros(1, 6, 1), rast, tri, diff_attrs="all")


def test_triangles_that_cannot_be_drawn_are_not():
    """Corners that are no vertices, numbers that are none, triangles without an area, and no triangles at all."""
    pos = numbers([[-1, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1], [torch.nan, 0, 0, 1], [torch.inf, 0, 0, 1]])
    wrong = corners([[0, 1, 9], [0, 1, -1], [0, 0, 1], [0, 1, 3], [0, 1, 4]])
    rast, slopes = rasterise(pos[None], wrong, (5, 5))
    assert float(rast.abs().sum()) == 0 and float(slopes.abs().sum()) == 0
    assert float(rasterise(pos[None], corners([]).view(0, 3), (5, 5))[0].abs().sum()) == 0
    behind = pos[:3] * numbers([[1, 1, 1, -1]])
    assert float(rasterise(behind[None], corners([[0, 1, 2]]), (5, 5))[0].abs().sum()) == 0
    rast, _ = rasterise(pos[None], corners([[0, 1, 2]]), (5, 5))
    assert float(interpolate(torch.ones(2, 1), rast, corners([[0, 1, 2]]))[0].sum()) == 0  # a corner without attributes


def test_no_images_make_none():
    pos, tri = torch.zeros(0, 3, 4, requires_grad=True), corners([[0, 1, 2]])
    rast, _ = rasterise(pos, tri, (4, 5))
    values, _ = interpolate(torch.ones(1, 3, 2), rast, tri)
    values.sum().backward()
    assert values.shape == (0, 4, 5, 2) and pos.grad is not None
    assert rasterise(pos.new_zeros(3, 4), tri, (4, 5), tri.new_zeros(0, 2))[0].shape == (0, 4, 5, 4)


def test_the_operators_keep_pytorchs_rules():
    pos, tri = soup(3, seed=0)
    ranges = torch.tensor([[0, 3]], dtype=torch.int32)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    leaf = pos[None].requires_grad_()
    torch.library.opcheck(raster.rasterise, (leaf, tri, ranges, True, 3, 5, 6), test_utils=checks)
    rast, _ = raster.rasterise(pos[None], tri, ranges, True, 3, 5, 6)
    arguments = torch.rand(1, 9, 2).requires_grad_(), rast.requires_grad_(), tri, 1.0
    torch.library.opcheck(attributes.interpolate, arguments, test_utils=checks)


@pytest.mark.parametrize("module", raster.MODULES)
def test_the_kernels_compile_for_cuda_without_a_gpu(module, tmp_path):
    raster.load(torch.device("cpu"))
    wp.compile_aot_module(module.KERNELS[0].module, arch=75, module_dir=tmp_path, use_ptx=True)
    (compiled,) = tmp_path.glob("*.ptx")
    for kernel in module.KERNELS:
        assert f".entry {kernel.key}_" in compiled.read_text()
