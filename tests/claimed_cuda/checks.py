"""Checks for tests/test_claimed_cuda.py: a tensor on another device raises; what waits for the device is counted."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pullback
import pytest
import torch
from omegaconf import OmegaConf
from pullback import diffreps
from pullback.constraints import CONSTRAINTS
from pullback.evaluate.plan.counting import count
from pullback.evaluate.plan.measure import Run
from pullback.evaluate.plan.networks import describe
from pullback.evaluate.plan.report import PROMPT
from pullback.fitting import FirstOrder, Fit, GaussNewton
from pullback.host import base, config, parts, registry
from pullback.host.scene import encoding, renderer
from pullback.noise import COUPLINGS
from pullback.resources import TINY_MODEL
from pullback.views import crops
from test_representations import CASES
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import optimizer as optimizers

CUDA = torch.device("cuda:0")
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
GEOMETRIES = {"volume-grid": "pullback-nerf-tiny.yaml", "implicit-volume": "pullback-nerf.yaml"}
SIGMAS = torch.tensor([2.0, 0.5, 0.0])
POSES = diffreps.orbit(torch.tensor([10.0, 35.0]), torch.tensor([20.0, -130.0]))


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors without data; PyTorch's optimisers take those on CUDA together, as they take real ones."""
    known = getattr(optimizers, "_foreach_supported_types", [])
    monkeypatch.setattr(optimizers, "_foreach_supported_types", [*known, FakeTensor], raising=False)
    monkeypatch.setattr(renderer, "choose", lambda *_: ("fused", None), raising=False)  # no driver is here to ask
    for module in (base, encoding, renderer):
        monkeypatch.setattr(module, "get_device", lambda: CUDA, raising=False)
    with FakeTensorMode(allow_non_fake_inputs=True), count(device="cuda"):
        yield


def moved(content: Any) -> Any:
    """Tensors, in dicts too, on CUDA."""
    if isinstance(content, dict):
        return {key: moved(value) for key, value in content.items()}
    return content.to(CUDA) if isinstance(content, Tensor) else content


def module_on_cuda(module: Any) -> Any:
    """A module with its parameters and buffers on CUDA; `nn.Module.to` cannot move tensors without data."""
    for part in module.modules():
        for name, value in part._parameters.items():
            part._parameters[name] = (
                None if value is None else nn.Parameter(value.detach().to(CUDA), value.requires_grad)
            )
        for name, value in part._buffers.items():
            part._buffers[name] = moved(value)
    return module


def places(module: nn.Module) -> set[torch.device]:
    return {x.device for x in [*module.parameters(), *module.buffers()]}


def smooth(noisy: Tensor, sigma: float, views: Any) -> Tensor:
    return noisy / (1 + sigma**2)


@pytest.mark.parametrize("name", CASES)
def test_a_visit_stays_on_the_device_of_the_representation(name: str):
    case = CASES[name]
    field = module_on_cuda(case.make())
    sampler = pullback.Sampler(field, moved(case.views), smooth, SIGMAS, case.noises[0], solver=FirstOrder(steps=1))
    state = sampler.visit(sampler.initial())
    assert places(field) == {CUDA} and state.noise is not None and state.noise.device == CUDA
    assert sampler.check().calls > 0


@pytest.mark.parametrize("name", COUPLINGS)
def test_noise_of_every_coupling_is_where_the_renders_are(name: str):
    spherical = crops.look(torch.tensor([10.0, 80.0]), torch.tensor([170.0, -30.0]), 70.0)
    views = moved(spherical) if name == "spherical" else POSES.to(CUDA)
    like = torch.zeros(2, 4, 8, 8, device=CUDA)
    coupling, draw = COUPLINGS[name], pullback.noise.white(torch.Generator(), like)
    noise = coupling.at(coupling.draw(draw, tuple(like.shape)), views, tuple(like.shape))
    assert noise.device == CUDA and noise.dtype == like.dtype and noise.shape == like.shape


@pytest.mark.parametrize(
    ("name", "solver"),
    [*((name, FirstOrder(steps=1)) for name in CONSTRAINTS), ("none", GaussNewton(1, 1, damping=0.1))],
)
def test_every_constraint_and_every_solver_works_there(name: str, solver: Any):
    field = module_on_cuda(diffreps.VoxelField(4, 6, 6, 4))
    noise = "independent" if CONSTRAINTS[name].per_view_noise else "shared"
    sampler = pullback.Sampler(field, POSES.to(CUDA), smooth, SIGMAS, noise, constraint=name, solver=solver)
    sampler.visit(sampler.visit(sampler.initial()))
    assert places(field) == {CUDA}


STEP, VISIT = 19, 1
"""Launches of a fit step, and synchronisations of a visit with all its fit steps, at most."""
fused = pytest.mark.skipif(importlib.util.find_spec("pullback.render") is None, reason="there are no fused kernels yet")


def run_of(geometry: str, *overrides: str) -> Run:
    """The tiny config's run with another geometry, in half precision with the shipped model's network."""
    parts.load_parts()
    files = (str(CONFIGS / name) for name in ("pullback-nerf-tiny.yaml", GEOMETRIES[geometry]))
    tiny, other = (config.config_to_primitive(config.load_config(file, cli_args=[PROMPT])) for file in files)
    for key in ("geometry_type", "geometry"):
        tiny["system"][key] = other["system"][key]
    tiny["system"]["renderer"]["radius"] = tiny["system"]["geometry"]["radius"]
    text = OmegaConf.to_yaml(OmegaConf.create(tiny))
    cfg = config.load_config(text, from_string=True, cli_args=["system.guidance.fit_steps=2", *overrides])
    described = describe(str(TINY_MODEL), None, "x")
    return Run(cfg, described.model(CUDA, torch.float16), described, CUDA)


@pytest.fixture(autouse=True)
def moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules move to CUDA, which PyTorch's own way cannot do with tensors that have no data."""
    monkeypatch.setattr(nn.Module, "to", lambda self, *_, **__: module_on_cuda(self))


@pytest.mark.parametrize("name", ["no-material", "diffuse-with-point-light-material"])
def test_materials_stay_there(name: str):
    parts.load_parts()
    points = torch.zeros(5, 3, device=CUDA)
    names = ("features", "viewdirs", "positions", "light_positions", "shading_normal", "normal")
    material = module_on_cuda(registry.find(name)({}))
    assert material(**dict.fromkeys(names, points)).device == CUDA


@pytest.mark.parametrize(
    "name", ["solid-color-background", "neural-environment-map-background", "pullback-gradient-background"]
)
def test_backgrounds_stay_there(name: str):
    parts.load_parts()
    background = module_on_cuda(registry.find(name)({}))
    with count(device="cuda") as cost:
        assert background(dirs=torch.zeros(2, 3, 3, 3, device=CUDA)).device == CUDA
    assert cost.synchronisations == 0


@pytest.mark.parametrize("name", ["volume-grid", "implicit-volume"])
def test_fields_and_their_gradients_stay_there_and_wait_for_nothing(name: str):
    parts.load_parts()
    field = module_on_cuda(registry.find(name)({"normal_type": "analytic"}))
    with count(device="cuda") as cost:
        out = field(torch.zeros(7, 3, device=CUDA), output_normal=True)
        (out["density"].sum() + out["features"].sum() + out["normal"].sum()).backward()
    assert {x.device for x in out.values()} == places(field) == {CUDA}
    assert all(p.grad is not None and p.grad.device == CUDA for p in field.parameters() if p.numel() > 1)
    assert cost.synchronisations == 0


@fused
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_visit_in_half_precision_stays_there_and_says_where_it_waits(geometry: str):
    run = run_of(geometry)
    asked: list[tuple[torch.dtype, torch.device]] = []
    network = run.denoise.model.unet
    network.register_forward_pre_hook(lambda _, args: asked.append((args[0].dtype, args[0].device)))
    sampler = run.guidance.sampler(run.field, lambda generator: run.views, run.denoise, run.optimizer, 0)
    state = sampler.visit(sampler.initial(), run.views)
    assert set(asked) == {(torch.float16, CUDA)} and state.noise is not None
    assert state.noise.dtype == torch.float32 and state.noise.device == CUDA and places(run.field) == {CUDA}
    with count(device="cuda") as cost:
        sampler.visit(state, run.views)
    # renders, latents, answers, targets and steps of the fit are looked at together
    limit = VISIT if run.renderer.backend == "fused" else VISIT + 20  # PyTorch's way finds the rays that meet the box
    assert cost.synchronisations <= limit, cost.places


@fused
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_fit_step_launches_few_kernels_and_waits_for_none(geometry: str):
    """What two steps take more than one, with the fused kernels; a fit reads at its end what its steps say."""
    run = run_of(geometry)
    target = torch.zeros(run.count, 3, run.height, run.width, device=CUDA)
    costs = []
    for steps in (1, 2):
        solver = FirstOrder(steps=steps, optimizer=run.optimizer)
        fit = Fit(run.field, run.views, target, None, torch.Generator())
        with count(device="cuda") as cost:
            solver.solve(fit)
        costs.append(cost)
    one, two = costs
    if run.renderer.backend == "fused":
        assert two.synchronisations == one.synchronisations, two.places - one.places
        assert two.launches - one.launches <= STEP, (two.operators - one.operators).most_common()
