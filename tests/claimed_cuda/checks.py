"""Checks for tests/test_claimed_cuda.py: a tensor on another device raises; what waits for the device is counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pullback
import pytest
import torch
from pullback import diffreps
from pullback.constraints import CONSTRAINTS
from pullback.evaluate.plan.counting import count
from pullback.fitting import FirstOrder, GaussNewton
from pullback.host import base
from pullback.noise import COUPLINGS
from pullback.views import crops
from test_representations import CASES
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import optimizer as optimizers

CUDA = torch.device("cuda:0")
SIGMAS = torch.tensor([2.0, 0.5, 0.0])
POSES = diffreps.orbit(torch.tensor([10.0, 35.0]), torch.tensor([20.0, -130.0]))


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors without data; PyTorch's optimisers take those on CUDA together, as they take real ones."""
    known = getattr(optimizers, "_foreach_supported_types", [])
    monkeypatch.setattr(optimizers, "_foreach_supported_types", [*known, FakeTensor], raising=False)
    monkeypatch.setattr(base, "get_device", lambda: CUDA)
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


@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("solver", [FirstOrder(steps=1), GaussNewton(1, 2, damping=0.1)])
def test_every_constraint_and_solver_works_there(name: str, solver: Any):
    field = module_on_cuda(diffreps.VoxelField(4, 6, 6, 4))
    noise = "independent" if CONSTRAINTS[name].per_view_noise else "shared"
    sampler = pullback.Sampler(field, POSES.to(CUDA), smooth, SIGMAS, noise, constraint=name, solver=solver)
    sampler.visit(sampler.visit(sampler.initial()))
    assert places(field) == {CUDA}
