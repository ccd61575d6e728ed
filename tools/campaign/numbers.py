"""A NaN, an infinity and 1e20 put into one number of a visit: it is named and undone, and the run goes on unharmed."""

from __future__ import annotations

import functools
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pullback
import torch
from checkpoints import same  # pyright: ignore[reportMissingImports]
from pullback.errors import NonFiniteError
from pullback.noise import COUPLINGS
from torch import Tensor, nn

from .results import Results, Row

VALUES = {"nan": math.nan, "inf": math.inf, "1e20": 1e20}
PLACES = ("render", "denoiser", "fit", "gradient", "noise")
SETUPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "heun": {"order": 2},
    "multistep": {"order": "multistep"},
    "repaint": {"constraint": "repaint", "noise": "independent"},
    "repaint, fresh": {"constraint": "repaint", "noise": "fresh"},
    "repaint, heun": {"constraint": "repaint", "order": 2, "noise": "independent"},
    "projection": {"constraint": "projection", "noise": "independent"},
    "langevin": {"constraint": pullback.Langevin(), "solver": "gauss-newton", "noise": "independent"},
    "gauss-newton": {"solver": "gauss-newton"},
    "gauss-newton, heun": {"solver": "gauss-newton", "order": 2},
    "double": {"dtype": torch.float64},
    "double, gauss-newton": {"solver": "gauss-newton", "dtype": torch.float64},
}
VIEWS, LEVELS = 3, 6


@dataclass
class Fault:
    """One number that goes wrong: where, in which view, in which visit, at which call of that visit."""

    place: str
    value: float
    view: int
    call: int
    armed: bool = False
    calls: int = 0
    hit: bool = field(default=False)

    def now(self, place: str) -> bool:
        if not self.armed or place != self.place:
            return False
        self.calls += 1
        self.hit |= self.calls == self.call + 1
        return self.calls == self.call + 1

    def put(self, tensor: Tensor) -> Tensor:
        """The tensor with one number of the view replaced; any number where it has no views."""
        mask = torch.zeros(tensor.shape, dtype=torch.bool)
        mask[(self.view % len(mask),) + (0,) * (mask.ndim - 1)] = True
        return torch.where(mask, self.value, tensor)


class Through(torch.autograd.Function):
    """The identity whose backward pass may be broken."""

    @staticmethod
    def forward(x: Tensor, fault: Fault) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.fault = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return (ctx.fault.put(grads[0]) if ctx.fault.now("gradient") else grads[0]), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return tangents[0].clone()


class Pictures(nn.Module):
    """Three small pictures, linear in their parameters."""

    def __init__(self, fault: Fault, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.values = nn.Parameter(torch.randn(VIEWS, 3, 4, 4, generator=generator, dtype=dtype))
        self.mix = torch.randn(3, 3, generator=generator, dtype=dtype) / 3 + torch.eye(3, dtype=dtype)
        self.fault = fault

    def render(self, views: Tensor) -> Tensor:
        values = Through.apply(self.values, self.fault)
        out = torch.einsum("dc,vchw->vdhw", self.mix, values[views])  # pyright: ignore[reportIndexIssue]
        fitting = torch.is_grad_enabled() or not self.fault.armed
        return self.fault.put(out) if self.fault.now("fit" if fitting else "render") else out


def sampler(fault: Fault, dtype: torch.dtype = torch.float32, solver: str = "", **setup: Any) -> pullback.Sampler:
    generator = torch.Generator().manual_seed(2)
    root = torch.randn(48, 48, generator=generator)
    prior = pullback.priors.GaussianPrior(torch.zeros(3, 4, 4, dtype=dtype), (root @ root.T / 48).to(dtype))

    def denoise(noisy: Tensor, sigma: float, views: Any) -> Tensor:
        x0 = prior.denoise(noisy, sigma, views)
        return fault.put(x0) if fault.now("denoiser") else x0

    solvers = {"": pullback.FirstOrder(lr=0.05, steps=4), "gauss-newton": pullback.GaussNewton(1, 4)}
    made = pullback.Sampler(
        Pictures(fault, dtype), torch.arange(VIEWS), denoise, pullback.karras_sigmas(LEVELS, 0.1, 10.0),
        solver=solvers[solver], generator=torch.Generator().manual_seed(3), **setup,
    )  # fmt: skip
    broken: Any = Broken(made.couplings[0], fault)
    made.couplings = [broken]
    return made


class Broken:
    """A coupling whose noise may be broken."""

    def __init__(self, whole: Any, fault: Fault) -> None:
        self.whole, self.fault = whole, fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def at(self, *args: Any) -> Tensor:
        noise = self.whole.at(*args)
        return self.fault.put(noise) if self.fault.now("noise") else noise


def run(results: Results, args: Any) -> None:
    assert "independent" in COUPLINGS
    cases: dict[str, Callable[[], Row]] = {}
    for name, setup in SETUPS.items():
        for place in PLACES:
            for word, value in VALUES.items():
                case = f"{name}: {word} in the {place}"
                cases[case] = functools.partial(core, setup, place, value, f"{args.seed} {case}")
    results.run(cases, args.only)


def ended(made: pullback.Sampler, state: Any) -> Any:
    while state.sigma != 0:
        state = made.visit(state)
    return [made.diffrep.state_dict(), made.solver.state_dict(), state.noise, state.nfe, state.residual]


def core(setup: dict[str, Any], place: str, value: float, seed: str) -> Row:
    draw = random.Random(seed)
    whole = sampler(Fault(place, value, 0, 0), **setup)
    wanted = ended(whole, whole.initial())
    newton = setup.get("solver") == "gauss-newton"  # whose first render of a fit is that of its gradient
    # a product inside conjugate gradients may be 1e20 where the render is steep
    calls = {"fit": 1 if newton else 4, "gradient": (1 if value == 1e20 else 3) if newton else 4}
    fault = Fault(place, value, draw.randrange(VIEWS), draw.randrange(calls.get(place, 1)))
    made = sampler(fault, **setup)
    state = made.initial()
    for _ in range(draw.randrange(1, LEVELS - 1)):
        state = made.visit(state)
    before = {name: value.clone() for name, value in made.diffrep.state_dict().items()}
    fault.armed, said = True, "no error"
    try:
        made.visit(state)
    except NonFiniteError as error:
        said = str(error)
    fault.armed = False
    if not fault.hit:
        return {"said": said, "verdict": "the place was not reached"}
    faults = []
    if not re.match(rf"stopped at level {state.level}, cycle {state.cycle}, sigma ", said):
        faults.append("level not named")
    # a gradient is the sum over all views
    if place == "gradient":
        faults += ["gradient not named"] * ("gradient" not in said and "derivative" not in said)
    elif not re.search(rf"in view {fault.view}\b", said):
        faults.append("view not named")
    faults += ["parameters not as before"] * (not same(before, made.diffrep.state_dict()))
    faults += ["the run ends elsewhere"] * (not same(wanted, ended(made, state)))
    return {"said": said, "verdict": "; ".join(faults) or "ok"}
