"""The step of a visit by Euler's rule, by Heun's, or by a two-step rule that asks the denoiser once.

All fit θ to a target; they differ in the target. Euler's, (σ'/σ) u + (1 − σ'/σ) x̂0, is exact where x̂0 stays as it is
over the step. The other two are of second order where the fits reach their targets or f is linear.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor

from ..constraints import Visit
from ..fitting import DiffRep, Solution, trainable
from .space import Space

Past = tuple[dict[str, Any], ...]
"""The steps before this one with the same noise, oldest first: `params`, θ before the step; `sigma`, its σ; `middle`,
whether its target was of second order. Tensors and plain values only."""

Fit = Callable[[Tensor], Solution]
"""Fits θ to a target [V,C,H,W] in the space of the fit."""

Integrator = Callable[[Space, Fit, Visit, Any, Tensor, Past], tuple[Solution, Past]]
"""(space, fit, visit, views, the constraint's target, past) -> the fit's solution, and the past of the next visit."""

WEIGHTS = {1: (1.0,), 2: (6 / 7, 1 / 7)}
"""Of the latest step and the one before; with 6 : 1 and equal steps, two in a row forget a fit's error fastest."""

EXTRAPOLATE = {1: 1 / 2, 2: 7 / 9}
"""How far x̂0 is extrapolated, in units of its change since the past steps, where all steps are equal in log σ."""


def euler(space: Space, fit: Fit, visit: Visit, views: Any, target: Tensor, past: Past) -> tuple[Solution, Past]:
    """One call, first order; for f the identity it is DDIM (Song et al. 2021)."""
    return fit(space.aim(target)), ()


def heun(space: Space, fit: Fit, visit: Visit, views: Any, target: Tensor, past: Past) -> tuple[Solution, Past]:
    """Two calls, second order; the last step, to σ' = 0, is Euler's (Karras et al. 2022, algorithm 1)."""
    solution = fit(space.aim(target))
    if visit.sigma_next == 0:
        return solution, ()
    ahead = space.clean(views)
    x0 = space.denoise(ahead + visit.sigma_next * visit.noise, visit.sigma_next, views)
    slope = ((visit.clean - visit.x0) / visit.sigma + (ahead - x0) / visit.sigma_next) / 2
    # the second fit starts from the predictor's θ, which is near its own
    return fit(space.aim(visit.clean + (visit.sigma_next - visit.sigma) * slope)), ()


def multistep(space: Space, fit: Fit, visit: Visit, views: Any, target: Tensor, past: Past) -> tuple[Solution, Past]:
    """One call, second order, from the renders of the two θ before.

    In λ = −log σ the flow is du/dλ = x̂0 − u, and a step with x̂0 = D held fixed leads to (σ'/σ) u + (1 − σ'/σ) D.
    DPM-Solver++(2M) (Lu et al. 2022) takes for D the line through x̂0 here and x̂0 of the step before, at the middle of
    the step. Views are new at every visit, so x̂0 of the step before is unknown in them. But what a past step has made
    of a render is known in any view: the renders before and after it, w and w', give its mean D = (w' − (σ'/σ) w)/(1 −
    σ'/σ), which belongs to the middle of that step, or to its beginning if it was Euler's. So two renders and no call
    of the denoiser give the line. With the last step alone this would be the midpoint rule of Nyström, which never
    forgets the error of a fit; the mean of two, see `WEIGHTS`, has less of it than Euler's steps.

    Where the steps grow in λ, a line from short ones would lead far beyond a long one, while x̂0 levels off: it ends the
    sooner there, see `EXTRAPOLATE`. With the shipped model and six levels that decides between 20 dB and 43 dB to the
    converged picture, docs/results/calls.md.

    The line is drawn in the space of the fit, which costs no encoder. The first step and the last are Euler's.
    """
    aim = space.aim(target)
    start = {name: p.detach().clone() for name, p in trainable(space.diffrep).items()}
    now: Past = (*past[-1:], {"params": start, "sigma": visit.sigma, "middle": bool(past)})
    if not past or visit.sigma_next == 0:
        return fit(aim), now
    ratio, step = visit.sigma_next / visit.sigma, math.log(visit.sigma / visit.sigma_next)
    render = space.fitted(views, visit.clean)
    before, age = _before(space, views, render, visit.sigma, past)
    here = (aim - ratio * render) / (1 - ratio)
    last = math.log(past[-1]["sigma"] / visit.sigma)
    far = min(step / 2 / age, EXTRAPOLATE[len(past)] * min(1.0, last / step))  # both agree as steps become small
    return fit(aim + (1 - ratio) * far * (here - before)), now


INTEGRATORS: dict[int | str, Integrator] = {1: euler, 2: heun, "multistep": multistep}
"""Integrators by the sampler's `order`."""


def _before(space: Space, views: Any, render: Tensor, sigma: float, past: Past) -> tuple[Tensor, float]:
    """The weighted mean D of the past steps in these views, and how far back in λ it lies."""
    mean, age, later, end = torch.zeros_like(render), 0.0, render, sigma
    for weight, step in zip(WEIGHTS[len(past)], reversed(past), strict=True):
        with _parameters(space.diffrep, step["params"]):
            earlier = space.fitted(views)
        ratio, back = end / step["sigma"], math.log(step["sigma"] / sigma)
        mean = mean + weight * (later - ratio * earlier) / (1 - ratio)
        age += weight * (back + math.log(ratio) / 2 if step["middle"] else back)
        later, end = earlier, step["sigma"]
    return mean, age


@contextlib.contextmanager
def _parameters(diffrep: DiffRep, params: dict[str, Tensor]) -> Generator[None, None, None]:
    """Other values of the parameters for a while."""
    own = {name: p.detach().clone() for name, p in trainable(diffrep).items()}
    try:
        set_parameters(diffrep, params)
        yield
    finally:
        set_parameters(diffrep, own)


@torch.no_grad()
def set_parameters(diffrep: DiffRep, params: dict[str, Tensor]) -> None:
    """Gives the trainable parameters other values, by name."""
    for name, parameter in trainable(diffrep).items():
        parameter.copy_(params[name])
