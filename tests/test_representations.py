"""What every representation must be able to do: one suite, and a table that none may be missing from.

A new representation gets a row in CASES; see docs/extending.md.
"""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pullback
import pytest
import torch
from pullback import diffreps, priors
from pullback.errors import UserError
from pullback.views import crops
from torch import Tensor, nn

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))
from splines import Splines  # noqa: E402

D = torch.float64


@dataclass
class Case:
    """A small representation of that class, the views it is shown from, and calls that must be refused."""

    make: Callable[[], nn.Module]
    views: Any
    refused: list[Callable[[], Any]]
    noises: list[str] = field(default_factory=lambda: ["shared", "independent"])
    looks_at_values: bool = False  # a renderer that leaves rays out cannot run on the device without values
    rasterised: bool = False  # in single precision, with backward derivatives alone, which leave out some silhouettes


def poses() -> Tensor:
    return diffreps.orbit(torch.tensor([10.0, 35.0]), torch.tensor([20.0, -130.0]))


def ahead() -> dict[str, Tensor]:
    """Crops across ±180°, near the horizon and over a pole."""
    return crops.look(torch.tensor([10.0, 80.0]), torch.tensor([170.0, -30.0]), 70.0)


def strip() -> tuple[Tensor, Tensor, Tensor]:
    """Four triangles and the texture coordinates of their corners."""
    faces = torch.tensor([[0, 1, 2], [1, 2, 3], [2, 3, 4], [0, 2, 4]])
    return torch.linspace(-5, 5, 15).sin().view(5, 3), faces, torch.linspace(0, 9, 24).cos().square().view(4, 3, 2)


def neus_of_a_density() -> nn.Module:
    from pullback.evaluate.exact_worlds.hosted import Hosted

    return Hosted(("volume-grid", {"grid_size": [4, 4, 4]}), ("neus-volume-renderer", {"num_samples_per_ray": 4}))


def implicit_sdf() -> nn.Module:
    """The host's implicit-sdf in its neus-volume-renderer, as the worlds have it, and a small one."""
    from pullback.evaluate.exact_worlds.hosted import Hosted

    coarse = {"otype": "HashGrid", "n_levels": 2, "log2_hashmap_size": 8, "base_resolution": 3, "per_level_scale": 1.5}
    network = {"otype": "VanillaMLP", "activation": "Softplus", "n_neurons": 4, "n_hidden_layers": 1}
    ball = {"sdf_bias": "sphere", "sdf_bias_params": 0.6, "pos_encoding_config": coarse, "mlp_network_config": network}
    drawn = {"num_samples_per_ray": 12, "grid_prune": False, "learned_variance_init": 0.2}
    return Hosted(("implicit-sdf", ball), ("neus-volume-renderer", drawn), size=5)


def tetrahedra_sdf_grid() -> nn.Module:
    """The host's tetrahedra-sdf-grid in its nvdiff-rasterizer, as the worlds have it, and a small one."""
    from pullback.evaluate.exact_worlds.hosted import Hosted

    waves = {"otype": "Frequency", "n_frequencies": 1}
    network = {"otype": "VanillaMLP", "n_neurons": 4, "n_hidden_layers": 1}
    ball = {"shape_init": "sphere", "shape_init_params": 0.6, "pos_encoding_config": waves}
    ball |= {"mlp_network_config": network, "isosurface_resolution": 4}
    return Hosted(("tetrahedra-sdf-grid", ball), ("nvdiff-rasterizer", {"samples": 4}), size=5)


def custom_mesh() -> nn.Module:
    """The host's custom-mesh, a tetrahedron, in its nvdiff-rasterizer."""
    from pullback.evaluate.exact_worlds.hosted import Hosted

    solid = "v 1 1 1\nv 1 -1 -1\nv -1 1 -1\nv -1 -1 1\nf 1 2 3\nf 1 3 4\nf 1 4 2\nf 2 4 3\n"
    network = {"otype": "VanillaMLP", "n_neurons": 4, "n_hidden_layers": 1}
    looks = {"pos_encoding_config": {"otype": "Frequency", "n_frequencies": 1}, "mlp_network_config": network}
    with TemporaryDirectory() as folder:
        (Path(folder) / "solid.obj").write_text(solid)
        placed = {"shape_init": f"mesh:{folder}/solid.obj", "shape_init_params": 0.5}
        return Hosted(("custom-mesh", {**looks, **placed}), ("nvdiff-rasterizer", {"samples": 4}), size=5)


def rasterised_density() -> nn.Module:
    from pullback.evaluate.exact_worlds.hosted import Hosted

    return Hosted(("volume-grid", {"grid_size": [4, 4, 4]}), ("nvdiff-rasterizer", {}))


CASES: dict[str, Case] = {
    "Pixels": Case(lambda: diffreps.Pixels(2, 3, 4), [0, 0], [lambda: diffreps.Pixels(3, 4)]),
    "Pixels, one per view": Case(lambda: diffreps.Pixels(3, 2, 3, 4), [2, 0], [lambda: diffreps.Pixels(0, 1, 2, 3)]),
    "Linear": Case(lambda: diffreps.Linear(torch.randn(2, 3, 4, 5)), [0], [lambda: diffreps.Linear(torch.zeros(3))]),
    "Linear, one per view": Case(
        lambda: diffreps.Linear(torch.randn(3, 1, 2, 3, 4)), [1, 2], [lambda: diffreps.Linear(torch.zeros(1, 2, 3))]
    ),
    "SirenImage": Case(
        lambda: diffreps.SirenImage(3, 5, 4, hidden=8, layers=2),
        [0, 0],
        [lambda: diffreps.SirenImage(3, 0, 4), lambda: diffreps.SirenImage(3, 4, 4, omega=0)],
    ),
    "SirenImages": Case(
        lambda: diffreps.SirenImages(3, 3, 5, 4, hidden=8, layers=2),
        [2, 0],
        [lambda: diffreps.SirenImages(0, 3, 4, 4), lambda: diffreps.SirenImages(1, 3, 4, 4, rays=0)],
    ),
    "SirenImages, some pixels at a time": Case(
        lambda: diffreps.SirenImages(2, 3, 5, 4, hidden=8, layers=2, rays=7),
        [0, 1],
        [lambda: diffreps.SirenImages(2, 3, 4, 4, hidden=0)],
    ),
    "FourierImage": Case(
        lambda: diffreps.FourierImage(3, 5, 4, features=4, hidden=8, layers=1),
        [0, 0],
        [lambda: diffreps.FourierImage(3, 5, 4, features=0), lambda: diffreps.FourierImage(3, 5, 4, bandwidth=-1.0)],
    ),
    "VoxelField": Case(
        lambda: diffreps.VoxelField(4, height=5, width=6, samples=7),
        poses(),
        [lambda: diffreps.VoxelField(1), lambda: diffreps.VoxelField(fovy=4.0)],
        ["shared", "independent", "smooth", "surface"],
    ),
    "MeshTexture": Case(
        lambda: diffreps.MeshTexture(*strip(), 6, 5, 4),
        poses(),
        [
            lambda: diffreps.MeshTexture(torch.zeros(3, 3), torch.zeros(0, 3).long(), torch.zeros(0, 3, 2)),
            lambda: diffreps.MeshTexture(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]), torch.zeros(1, 3, 2), 0),
        ],
        ["shared", "independent", "smooth", "surface"],
    ),
    "PointSet": Case(
        lambda: diffreps.PointSet(9, 5, 6),
        poses(),
        [
            lambda: diffreps.PointSet(0),
            lambda: diffreps.PointSet(radius=0.0),
            lambda: diffreps.PointSet(fovy=4.0),
            lambda: diffreps.PointSet(2).render([0]),
        ],
        ["shared", "independent", "smooth", "surface"],
        looks_at_values=True,
    ),
    "Panorama": Case(
        lambda: diffreps.Panorama(3, 5, 6, hidden=8, layers=2),
        ahead(),
        [lambda: diffreps.Panorama(3, 0, 6), lambda: diffreps.Panorama(3, 5, 6, hidden=8).render([0])],
        ["shared", "independent", "spherical"],
    ),
    "EquirectangularGrid": Case(
        lambda: diffreps.EquirectangularGrid(3, 5, 6, resolution=6),
        ahead(),
        [
            lambda: diffreps.EquirectangularGrid(3, 5, 6, resolution=0),
            lambda: diffreps.EquirectangularGrid(3, 5, 6).render(torch.eye(4)[None]),
        ],
        ["shared", "independent", "spherical"],
    ),
    "Hosted, implicit-sdf": Case(implicit_sdf, poses(), [neus_of_a_density], ["shared"], looks_at_values=True),
    "Hosted, tetrahedra-sdf-grid": Case(
        tetrahedra_sdf_grid, poses(), [rasterised_density], ["shared"], looks_at_values=True, rasterised=True
    ),
    "Hosted, custom-mesh": Case(
        custom_mesh, poses(), [rasterised_density], ["shared"], looks_at_values=True, rasterised=True
    ),
    "Splines": Case(lambda: Splines(3, 6, 5, samples=7), [0, 0], [lambda: Splines(0, 6, 5)]),
}
COUPLED = [(name, noise) for name, case in CASES.items() for noise in case.noises]
every = pytest.mark.parametrize("name", CASES)
smooth = pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.rasterised])


def built(name: str, seed: int = 0, dtype: torch.dtype = D) -> nn.Module:
    """The case's representation at random parameters, so that no derivative is 0 by chance."""
    torch.manual_seed(seed)
    made = CASES[name].make().to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made


def there(views: Any, device: torch.device) -> Any:
    """The views on a device; numbers of views stay."""
    if isinstance(views, Mapping):
        return {key: value.to(device) for key, value in views.items()}
    return views.to(device) if isinstance(views, Tensor) else views


def count(views: Any) -> int:
    return len(next(iter(views.values()))) if isinstance(views, Mapping) else len(views)


def only(views: Any, i: int) -> Any:
    """The i-th view, as a batch of one."""
    return {key: v[i : i + 1] for key, v in views.items()} if isinstance(views, Mapping) else views[i : i + 1]


def as_function(diffrep: nn.Module, views: Any) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
    """The renders as a function of the parameters, and the parameters."""

    class Forward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.diffrep = diffrep

        def forward(self) -> Tensor:
            return diffrep.render(views)  # type: ignore[operator]

    module = Forward()
    parameters = {key: p.detach() for key, p in module.named_parameters()}
    return lambda values: torch.func.functional_call(module, values, ()), parameters


def random_like(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: torch.randn_like(v) for key, v in values.items()}


def dot(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return sum(float((a[key] * b[key]).sum()) for key in a)


def run(name: str, noise: str = "shared", seed: int = 0, **named: Any) -> tuple[nn.Module, dict[str, Any]]:
    """A representation and the arguments of a short run that it can be sampled with."""
    diffrep = named.pop("diffrep", None) or built(name)
    one = next(diffrep.parameters()).detach()
    views = there(CASES[name].views, one.device)
    with torch.no_grad():
        shape = diffrep.render(views).shape[1:]  # type: ignore[operator]
    size = shape.numel()
    prior = priors.GaussianPrior(0.5 * one.new_ones(shape), 0.1 * torch.eye(size, dtype=one.dtype, device=one.device))
    arguments = {
        "diffrep": diffrep, "views": views, "denoise": prior.denoise, "sigmas": pullback.karras_sigmas(3, 0.1, 5.0),
        "noise": noise, "constraint": pullback.Repaint(2), "solver": pullback.FirstOrder(lr=0.01, steps=3),
        "generator": torch.Generator().manual_seed(seed),
    }  # fmt: skip
    return diffrep, arguments | named


def test_no_representation_is_missing() -> None:
    exported = [value for name, value in vars(diffreps).items() if not name.startswith("_")]
    able = [c for c in exported if inspect.isclass(c) and hasattr(c, "render")]
    bases = {c for c in able for other in able if other is not c and issubclass(other, c)}
    tested = {name.partition(",")[0] for name in CASES}
    assert {c.__name__ for c in able if c not in bases} == tested - {"Splines", "Hosted"}
    for name in CASES:
        assert type(CASES[name].make()).__name__ == name.partition(",")[0]


@smooth
def test_the_pull_back_is_the_adjoint_of_the_push_forward(name: str) -> None:
    function, at = as_function(built(name), CASES[name].views)
    render, pull = torch.func.vjp(function, at)[:2]
    v, w = random_like(at), torch.randn_like(render)
    pushed = torch.func.jvp(function, (at,), (v,))[1]
    left = float((pushed * w).sum())
    assert left == pytest.approx(dot(v, pull(w)[0]), rel=1e-10) and abs(left) > 1e-6


@smooth
def test_the_gradient_is_the_slope(name: str) -> None:
    """Of a random sum of pixels, by autograd as an optimiser sees it, against central differences in float64."""
    diffrep, views = built(name), CASES[name].views
    function, at = as_function(diffrep, views)
    v = random_like(at)
    w, h = torch.randn_like(function(at)), 1e-7
    up, down = (function({k: at[k] + s * h * v[k] for k in at}) for s in (1, -1))
    slope = float(((up - down) * w).sum() / (2 * h))
    (diffrep.render(views) * w).sum().backward()  # type: ignore[operator]
    gradient = {f"diffrep.{key}": p.grad for key, p in diffrep.named_parameters()}
    assert all(g is not None for g in gradient.values())
    assert dot(v, gradient) == pytest.approx(slope, rel=1e-6, abs=1e-6) and abs(slope) > 1e-3  # type: ignore[arg-type]


@every
def test_a_batch_of_views_is_its_views_one_by_one(name: str, device: torch.device) -> None:
    diffrep, views = built(name).to(device), there(CASES[name].views, device)
    whole = diffrep.render(views)  # type: ignore[operator]
    assert whole.ndim == 4 and len(whole) == count(views) and whole.dtype == D
    single = [diffrep.render(only(views, i)) for i in range(count(views))]  # type: ignore[operator]
    assert torch.allclose(whole, torch.cat(single), atol=1e-13)


@pytest.mark.parametrize("name, noise", COUPLED)
def test_the_same_seed_gives_the_same_sample_and_another_another(name: str, noise: str) -> None:
    first, second, other = (run(name, noise, seed) for seed in (0, 0, 1))
    renders = [pullback.sample(**arguments).renders for _, arguments in (first, second, other)]
    assert torch.equal(renders[0], renders[1]) and not torch.equal(renders[0], renders[2])
    one, same = first[0].state_dict(), second[0].state_dict()
    assert all(torch.equal(one[key], same[key]) for key in one)


@pytest.mark.parametrize("name, noise", COUPLED)
def test_a_run_goes_on_bit_for_bit_from_any_visit(name: str, noise: str) -> None:
    diffrep, arguments = run(name, noise)
    saved, kept = [], []
    for state in pullback.steps(**arguments):
        file = io.BytesIO()
        torch.save(state.state_dict(), file)
        saved.append(file.getvalue())
        kept.append({key: v.clone() for key, v in diffrep.state_dict().items()})
    assert len(saved) == 6
    for i in (0, 3):
        other, arguments = run(name, noise, seed=7, diffrep=built(name, seed=5))
        resume = torch.load(io.BytesIO(saved[i]), weights_only=True)
        for later, _ in enumerate(pullback.steps(**arguments, resume=resume), i + 1):
            now = other.state_dict()
            assert all(torch.equal(now[key], kept[later][key]) for key in now)
        assert later == 5


@every
def test_both_solvers_fit_it_in_single_precision(name: str, device: torch.device) -> None:
    for solver in (pullback.FirstOrder(lr=0.003, steps=20), pullback.GaussNewton(iterations=1, cg_iterations=10)):
        if CASES[name].rasterised and isinstance(solver, pullback.GaussNewton):
            continue
        _, arguments = run(name, diffrep=built(name, dtype=torch.float32).to(device), constraint=None, solver=solver)
        result = pullback.sample(**arguments)
        assert result.renders.dtype == torch.float32 and result.renders.device.type == device.type
        assert bool(result.renders.isfinite().all())
        assert result.history[0]["residual"] < result.history[0]["residual_before"]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.looks_at_values])
def test_the_device_is_that_of_the_parameters(name: str) -> None:
    """On torch's device without values, where whatever is made on the CPU by itself is an error."""
    diffrep = CASES[name].make().to("meta")
    render = diffrep.render(CASES[name].views)  # type: ignore[operator]
    assert render.device.type == "meta" and render.dtype == torch.float32


@every
def test_bad_input_is_refused_in_a_sentence(name: str) -> None:
    assert CASES[name].refused
    for call in CASES[name].refused:
        with pytest.raises(UserError) as error:
            call()
        assert str(error.value).strip() and not str(error.value).endswith(".")
