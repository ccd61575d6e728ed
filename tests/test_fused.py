"""The fused kernels against the same march in PyTorch, in double precision."""

from __future__ import annotations

import pullback.host.scene.background
import pullback.host.scene.material
import pullback.host.scene.volume_grid  # noqa: F401
import pytest
import torch
from pullback.host.registry import find
from pullback.host.scene.encoders import HashGrid
from pullback.host.scene.renderer import NeRFVolumeRenderer
from pullback.render.field import COLOURS, DENSITIES, Field
from pullback.render.samples import DenseSamples

wp = pytest.importorskip("warp")
from pullback.render.fused import backdrop  # noqa: E402
from pullback.render.fused.backdrop import in_front  # noqa: E402
from pullback.render.fused.kernels import backdrop as kernels  # noqa: E402
from pullback.render.fused.operators import load  # noqa: E402
from pullback.render.fused.render import render  # noqa: E402

SAMPLES = 40
BOX = (-0.8, -1.0, -0.6), (0.8, 1.0, 0.9)


def rays(n: int = 300) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rays from all sides; some miss the box, one is parallel to an axis, one starts inside."""
    generator = torch.Generator().manual_seed(3)
    origins = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=-1) * 2.4
    aims = (torch.rand(n, 3, generator=generator) - 0.5) * 2.8
    directions = torch.nn.functional.normalize(aims - origins, dim=-1)
    origins[0], directions[0] = torch.tensor([0.1, 0.2, 3.0]), torch.tensor([0.0, 0.0, -1.0])
    origins[1] = torch.tensor([0.05, -0.1, 0.2])
    return origins, directions, torch.rand(n, generator=generator)


def voxels(activation: str = "softplus", **bias) -> Field:
    """A grid of random voxels."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(7 * 6 * 5, 4, generator=generator)
    if activation != "softplus":  # single precision knows exp(x) to |x| units in the last place
        rows = rows / 3
    rows.requires_grad_()
    gain = torch.tensor([1.4], requires_grad=True)
    return Field("voxels", [rows, gain], [5.0, 6.0, 7.0], activation, **{"bias": 0.3, **bias})


def hash_grid(activation: str = "softplus", levels: int = 6, active: int = 6, **bias) -> Field:
    """A hash grid, some of whose levels are hashed, and two networks; random, with gradients that cancel little."""
    generator = torch.Generator().manual_seed(2)
    grid = HashGrid(3, levels, 2, 9, 4, 1.5)
    grid.params.data.normal_(generator=generator)
    shapes = [(16, 2 * levels), (1, 16), (16, 2 * levels), (3, 16)]
    weights = [(torch.randn(shape, generator=generator) / 3).requires_grad_() for shape in shapes]
    settings = [float(active), *(float(n) for level in grid.levels for n in level)]
    tensors = [grid.params.detach().view(-1, 2).requires_grad_(), *weights]
    return Field("hashgrid", tensors, settings, activation, **{"bias": 0.3, **bias})


def raw_of_hash_grid(field: Field, tensors: list[torch.Tensor], unit: torch.Tensor) -> torch.Tensor:
    """Raw density and features [N, 4] at points in [0, 1]³, by the host's hash grid."""
    count = (len(field.settings) - 1) // 5
    grid = HashGrid(3, count, 2, 9, 4, 1.5).double()
    grid.active_levels = int(field.settings[0])
    encoded = torch.func.functional_call(grid, {"params": tensors[0].flatten()}, unit)
    nets = (tensors[1:3], tensors[3:5])
    return torch.cat([torch.relu(encoded @ hidden.T) @ out.T for hidden, out in nets], -1)


def raw_of_voxels(field: Field, tensors: list[torch.Tensor], unit: torch.Tensor) -> torch.Tensor:
    """Raw density and features [N, 4] at points in [0, 1]³, by PyTorch's own interpolation."""
    x, y, z = map(int, field.settings)
    grid = tensors[0].view(1, z, y, x, 4).movedim(-1, 1)
    places = (unit * 2 - 1).view(1, 1, 1, -1, 3)
    values = torch.nn.functional.grid_sample(grid, places, align_corners=False)[0, :, 0, 0].T
    return torch.cat([values[:, :1] * tensors[1], values[:, 1:]], -1)


RAW = {"voxels": raw_of_voxels, "hashgrid": raw_of_hash_grid}


def in_double(field: Field, colours: str, occupied=None, least: float = 0.0, stop: float = 0.0):
    """The same in PyTorch: sums [R, 6] and the field's tensors, in double precision."""
    tensors = [x.detach().double().requires_grad_() for x in field.tensors]
    origins, directions, offset = (x.double() for x in rays())
    box = torch.tensor(BOX, dtype=torch.float64)
    samples = DenseSamples.march(origins, directions, box, 0.0, 1e10, SAMPLES, offset)

    def points():
        return samples.spread(origins) + samples.t[:, None] * samples.spread(directions)

    def raw(at):
        unit = (at - box[0]) / (box[1] - box[0])
        values = RAW[field.kind](field, tensors, unit)
        far = at.norm(dim=-1)
        blob = field.scale * (1 - far / field.std) if field.blob == 1 else 0
        blob = field.scale * torch.exp(-0.5 * far**2 / field.std**2) if field.blob == 2 else blob
        return values[:, 0] + field.bias + blob, values[:, 1:]

    density = {
        "softplus": torch.nn.functional.softplus, "exp": torch.exp, "trunc_exp": torch.exp, "relu": torch.relu
    }[field.activation]  # fmt: skip
    if occupied is not None:
        unit = ((points() - box[0]) / (box[1] - box[0]) * len(occupied)).long().clamp(0, len(occupied) - 1)
        samples.keep(occupied[tuple(unit.T)])
    with torch.no_grad():
        if least > 0:
            samples.keep(samples.transmittance(density(raw(points())[0]))[1] >= least)
        if stop > 0:
            samples.keep(samples.transmittance(density(raw(points())[0]))[0] >= stop)
    before, features = raw(points())
    colour = torch.sigmoid(features) if colours == "sigmoid" else features
    weights, t = samples.weights(density(before))[:, None], samples.t[:, None]
    sums = samples.sum(weights * torch.cat([colour, torch.ones_like(t), t], -1))
    opacity, depth = sums[:, 3:4], sums[:, 4:]
    spread = samples.sum(weights * (t - samples.spread(depth / opacity.clamp(min=1e-5))) ** 2)
    return torch.cat([sums, spread / opacity.clamp(min=1e-5) * (opacity > 0.5)], -1), tensors


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """The error of a, in norm, in units of b's norm."""
    return float((a.detach().double() - b.detach()).norm() / b.detach().norm())


def compare(field: Field, colours: str, tolerance: float, **options) -> None:
    """Sums and gradients of all tensors, with random weights of the sums in the loss."""
    weights = torch.randn(len(rays()[0]), 6, generator=torch.Generator().manual_seed(5))
    limits = {"near": 0.0, "far": 1e10, "count": SAMPLES, "stop": 0.0, **options}
    sums = render(field, colours, *rays(), BOX, **limits)
    expected, tensors = in_double(field, colours, **options)
    assert relative(sums, expected) < tolerance
    gradients = torch.autograd.grad((sums * weights).sum(), field.tensors)
    right = torch.autograd.grad((expected * weights.double()).sum(), tensors)
    # together, since the gain's is one sum over all samples, which cancel
    assert relative(*(torch.cat([g.flatten() for g in side]) for side in (gradients, right))) < tolerance
    with torch.no_grad():  # keeps nothing for a gradient, and is bit for bit the same
        assert torch.equal(render(field, colours, *rays(), BOX, **limits), sums)


@pytest.mark.parametrize("activation", DENSITIES)
@pytest.mark.parametrize("colours", COLOURS)
def test_values_and_gradients_are_those_of_double_precision(activation, colours):
    compare(voxels(activation), colours, 1e-6)


@pytest.mark.parametrize("levels", [1, 6, 9])
def test_a_hash_grid_with_its_networks_is_that_of_double_precision(levels):
    compare(hash_grid(levels=levels, active=levels), "sigmoid", 1e-6)
    compare(hash_grid(levels=levels, active=max(1, levels // 2)), "sigmoid", 1e-6)


def test_a_hash_grid_in_empty_cells_with_a_blob_that_gets_opaque():
    occupied = torch.rand(8, 8, 8, generator=torch.Generator().manual_seed(2)) < 0.6
    field = hash_grid(bias=0.0, blob=1, scale=30.0, std=0.6)
    compare(field, "sigmoid", 1e-6, occupied=occupied, least=torch.tensor(0.01))
    compare(field, "sigmoid", 1e-6, stop=1e-4)


@pytest.mark.parametrize("field", ["voxels", "hashgrid"])
def test_the_kernels_compile_for_cuda_without_a_gpu(field, tmp_path):
    module, *kernels = load(field, torch.device("cpu"))
    for kernel in (*kernels, *module.KERNELS):
        wp.compile_aot_module(kernel.module, arch=75, module_dir=tmp_path, use_ptx=True)
        (compiled,) = tmp_path.glob(f"wp_{kernel.module.name}_*.ptx")
        assert f".entry {kernel.key}_" in compiled.read_text()


@pytest.mark.parametrize("blob", [1, 2])
def test_a_blob_is_added_to_the_raw_density(blob):
    compare(voxels(bias=0.0, blob=blob, scale=4.0, std=0.5), "sigmoid", 1e-6)


def test_empty_cells_thin_samples_and_hidden_ones_are_left_out():
    occupied = torch.rand(8, 8, 8, generator=torch.Generator().manual_seed(2)) < 0.6
    compare(voxels(bias=-1.0), "sigmoid", 1e-6, occupied=occupied)
    compare(voxels(bias=-1.0), "sigmoid", 1e-6, occupied=occupied, least=torch.tensor(0.01))
    compare(voxels(bias=8.0), "sigmoid", 1e-6, stop=1e-4)


def test_stopping_where_a_ray_is_opaque_changes_little():
    field = voxels(bias=8.0)
    sums = render(field, "sigmoid", *rays(), BOX, near=0.0, far=1e10, count=SAMPLES, stop=1e-4)
    assert relative(sums[:, :4], in_double(field, "sigmoid")[0][:, :4]) < 1e-4


def test_the_gradient_is_the_slope():
    """Central differences along a random direction; h = 1e-2 leaves h²/6 of the third derivative."""
    field = voxels()
    direction = torch.randn(field.tensors[0].shape, generator=torch.Generator().manual_seed(7))
    direction /= direction.norm()

    def loss(step: float) -> torch.Tensor:
        moved = field._replace(tensors=[field.tensors[0] + step * direction, field.tensors[1]])
        return render(moved, "sigmoid", *rays(), BOX, near=0.0, far=1e10, count=SAMPLES, stop=0.0)[:, :3].double().sum()

    (gradient,) = torch.autograd.grad(loss(0.0), field.tensors[:1])
    slope = float(loss(1e-2) - loss(-1e-2)) / 2e-2
    assert abs(float((gradient * direction).sum()) - slope) < 2e-3 * abs(slope)


@pytest.mark.parametrize("build", [voxels, hash_grid])
def test_it_is_repeatable_bit_for_bit_and_does_not_depend_on_how_rays_are_split(build):
    field, limits = build(), {"near": 0.0, "far": 1e10, "count": SAMPLES, "stop": 1e-4}

    def run() -> tuple[torch.Tensor, ...]:
        sums = render(field, "sigmoid", *rays(), BOX, **limits)
        return sums, *torch.autograd.grad(sums.square().sum(), field.tensors)

    threads = torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            first, second = run(), run()
            assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
            whole = first[0] if n == 1 else whole  # noqa: F821
            assert torch.equal(first[0], whole)
    finally:
        torch.set_num_threads(threads)


def test_second_derivatives_are_refused():
    field = voxels()
    sums = render(field, "sigmoid", *rays(), BOX, near=0.0, far=1e10, count=SAMPLES, stop=0.0)
    (gradient,) = torch.autograd.grad(sums.square().sum(), field.tensors[0], create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()


def test_the_operator_keeps_pytorchs_rules():
    """Schema, fake tensors and autograd registration, by PyTorch's own check."""
    field = voxels()
    from pullback.render.fused.operators import march

    medium = [*BOX[0], *BOX[1], *BOX[0], *BOX[1], 0.0, 1e10, 8.0, 0.0, 0.3, 0.0, 0.0, 1.0, 0.0, 0.0]
    none = torch.empty(0, 0, 0, dtype=torch.bool)
    arguments = ("voxels", field.tensors, field.settings, *rays(8), none, torch.zeros(1), medium, True)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(march, arguments, test_utils=checks)


def scene(backend: str, **cfg) -> NeRFVolumeRenderer:
    torch.manual_seed(0)
    geometry = find("volume-grid")({"grid_size": [9, 8, 7], "density_bias": 0.5, "density_activation": "softplus"})
    geometry.grid.data.normal_()
    return NeRFVolumeRenderer(
        {"num_samples_per_ray": 32, "backend": backend, **cfg}, geometry=geometry,
        material=find("no-material")({}), background=find("solid-color-background")({}),
    )  # fmt: skip


@pytest.mark.parametrize("options", [{"grid_prune": False}, {}, {"prune_alpha_threshold": False}])
@pytest.mark.parametrize("training", [False, True])
def test_the_renderer_gives_the_same_pictures_by_both_ways(options, training):
    origins, directions, _ = rays()
    batch = {"rays_o": origins.view(1, 20, 15, 3), "rays_d": directions.view(1, 20, 15, 3)}
    outs = {}
    for backend in ("fused", "torch"):
        renderer = scene(backend, **options).train()
        renderer.update_step(0, 0)
        renderer.train(training)
        torch.manual_seed(4)  # of the samples' places
        outs[backend] = renderer(**batch, light_positions=torch.zeros(1, 3), per_sample=False)
        losses = [outs[backend][k].square().sum() for k in ("comp_rgb", "opacity", "depth", "z_variance")]
        loss = torch.stack(losses).sum()
        outs[backend]["gradient"] = torch.autograd.grad(loss, renderer.geometry.grid)[0]
    for key, value in outs["torch"].items():
        if key in outs["fused"]:
            assert relative(outs["fused"][key], value.double()) < 2e-4, key  # the kernels stop where a ray is opaque


def test_mixed_precision_of_what_is_behind_is_no_obstacle():
    """In Lightning's 16-mixed a network behind the scene makes colours of half precision, and none of the kernels."""
    origins, directions, _ = rays()
    batch = {"rays_o": origins.view(1, 20, 15, 3), "rays_d": directions.view(1, 20, 15, 3)}
    renderer = scene("fused", grid_prune=False).eval()
    whole = renderer(**batch, light_positions=torch.zeros(1, 3))
    half = torch.ones(1, 3, dtype=torch.bfloat16)
    mixed = renderer(**batch, light_positions=torch.zeros(1, 3), bg_color=half, per_sample=False)
    assert mixed["comp_rgb"].dtype == torch.float32
    assert torch.equal(mixed["comp_rgb"], whole["comp_rgb_fg"] + (1 - whole["opacity"]))


def test_derivatives_in_forward_mode_are_those_of_pytorch():
    """A projection goes through jvp and vjp, which the kernels have not; the renderer then takes PyTorch."""
    origins, directions, _ = rays()
    batch = {"rays_o": origins.view(1, 20, 15, 3), "rays_d": directions.view(1, 20, 15, 3)}
    results = []
    for backend in ("fused", "torch"):
        renderer = scene(backend, grid_prune=False).eval()
        grid = renderer.geometry.grid.detach()

        def picture(values, renderer=renderer):
            return torch.func.functional_call(Wrapped(renderer), {"geometry.grid": values}, (batch,))

        tangent = torch.randn(grid.shape, generator=torch.Generator().manual_seed(9))
        results.append(torch.func.jvp(picture, (grid,), (tangent,))[1])
    assert torch.equal(*results)


class Wrapped(torch.nn.Module):
    """A renderer with its geometry as a submodule."""

    def __init__(self, renderer: NeRFVolumeRenderer) -> None:
        super().__init__()
        self.geometry, self.draw = renderer.geometry, [renderer]

    def forward(self, batch):
        return self.draw[0](**batch, light_positions=torch.zeros(1, 3))["comp_rgb"]


@pytest.mark.parametrize("learned", [True, False])
def test_what_lies_behind_is_seen_through_what_is_in_front(learned: bool):
    generator = torch.Generator().manual_seed(8)
    sums, behind = torch.rand(9, 6, generator=generator), torch.rand(1, 3, generator=generator)
    weights = torch.randn(9, 3, generator=generator)
    gradients = []
    for ours in (True, False):
        kind = torch.float32 if ours else torch.float64
        front, back = sums.to(kind).requires_grad_(), behind.to(kind).requires_grad_(learned)
        every = back.expand(9, 3)
        seen = in_front(front, every) if ours else front[:, :3] + every * (1 - front[:, 3:4])
        gradients.append((seen, *torch.autograd.grad((seen * weights.to(kind)).sum(), [front, *[back] * learned])))
    for ours, right in zip(*gradients, strict=True):
        torch.testing.assert_close(ours.double(), right, rtol=1e-6, atol=1e-6)


def test_what_lies_behind_is_compiled_before_a_run_and_for_cuda_without_a_gpu(tmp_path):
    for loaded in (load, backdrop.load):
        loaded.cache_clear()
    load("voxels", torch.device("cpu"))
    assert backdrop.load.cache_info().currsize == 1
    wp.compile_aot_module(kernels.KERNELS[0].module, arch=75, module_dir=tmp_path, use_ptx=True)
    (compiled,) = tmp_path.glob("*.ptx")
    for kernel in kernels.KERNELS:
        assert f".entry {kernel.key}_" in compiled.read_text()


def test_rays_may_lie_in_a_table():
    field, (origins, directions, offset) = voxels(), rays()
    table = torch.cat([origins, torch.zeros(len(origins), 2), directions], -1)
    limits = {"near": 0.0, "far": 1e10, "count": SAMPLES, "stop": 0.0}
    apart = render(field, "sigmoid", table[:, :3], table[:, 5:], offset, BOX, **limits)
    assert torch.equal(apart, render(field, "sigmoid", origins, directions, offset, BOX, **limits))
