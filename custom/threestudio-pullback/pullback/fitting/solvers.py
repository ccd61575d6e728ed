"""One level's fit: move θ so that the renders reach their targets, argmin_θ Σ_i ‖f(θ, π_i) − target_i‖².

The exact step of the pulled-back flow is (Σ JᵀJ)⁺ Σ Jᵀ(target − u), not Σ Jᵀ(target − u): without the inverse
metric the path of rendered images would depend on how f is parametrised (Savani et al. 2024, section 3).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import NonFiniteError, UserError, check_finite
from .diffrep import DiffRep
from .linearise import FlatRender, Linear, conjugate_gradients, trainable
from .problem import Fit, Outcome, Solution


class Solver:
    """Base: `solve` moves the diffrep's parameters; what must outlive a visit goes through state_dict."""

    def start(self, diffrep: DiffRep) -> None:
        """Forget earlier runs: a new one begins, with this diffrep."""

    def solve(self, fit: Fit) -> Solution:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Its memory; it may share memory with the solver, as that of PyTorch's optimisers does."""
        return {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take what state_dict gave."""


@dataclass
class FirstOrder(Solver):
    """`steps` steps of a first-order optimiser on the mean square residual; needs only backward passes.

    By default Adam(lr) over the parameters that require gradients. Its moments live as long as the run: begun anew at
    every visit it would move every parameter by `lr` in its first step, however near the fit is. An `optimizer` built
    by the caller is used as it is, lr included. Which of many minima a rank-deficient fit ends in is the optimiser's
    choice; where that matters take GaussNewton. Raises NonFiniteError before a step would write a NaN into the
    parameters.
    """

    lr: float = 0.01
    steps: int = 20
    optimizer: torch.optim.Optimizer | None = field(default=None, repr=False)
    _kept: torch.optim.Optimizer | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.lr < math.inf:
            raise UserError(f"FirstOrder needs steps >= 1 and lr > 0, not {self.steps} and {self.lr}.")

    def start(self, diffrep: DiffRep) -> None:
        self._kept = self.optimizer or torch.optim.Adam(trainable(diffrep).values(), lr=self.lr)

    def solve(self, fit: Fit) -> Solution:
        if self._kept is None:
            self.start(fit.diffrep)
        parameters, optimizer = list(trainable(fit.diffrep).values()), cast(torch.optim.Optimizer, self._kept)
        start = 0.0
        for step in range(self.steps):
            optimizer.zero_grad()
            with torch.enable_grad():
                residual = check_finite(fit.residual(), "the fit")
                loss = residual.square().mean()
                torch.autograd.backward(loss)
            if step == 0:
                start = math.sqrt(loss.item())
            if not all(bool(p.grad.isfinite().all()) for p in parameters if p.grad is not None):
                raise NonFiniteError(f"the gradient of the fit has a NaN or infinity in optimiser step {step}")
            optimizer.step()
        optimizer.zero_grad()
        achieved = fit.estimate()
        outcome = Outcome.STEPS_EXHAUSTED if achieved <= start else Outcome.DIVERGED
        return Solution(achieved, start, self.steps, Outcome.CONVERGED if achieved == 0 else outcome)

    def state_dict(self) -> dict[str, Any]:
        return self._kept.state_dict() if self._kept else {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        if self._kept and saved:
            self._kept.load_state_dict(copy.deepcopy(saved))


@dataclass
class GaussNewton(Solver):
    """Gauss–Newton: (JᵀJ + damping·I) δ = Jᵀ(target − u) by conjugate gradients, J only as jvp and vjp.

    Conjugate gradients from 0 stay in the row space of J, so with damping 0 a rank-deficient fit takes the
    minimum-norm step, else the damped one. damping is in units of JᵀJ, summed over views, channels and
    pixels. A step that does not lower the residual is halved, up to 10 times. Converged means: the gradient
    or the residual fell to `tolerance` times its start. Needs a render with forward-mode derivatives
    (UserError if not). Source: Nocedal & Wright 2006, section 10.3.
    """

    iterations: int = 2
    cg_iterations: int = 10
    damping: float = 0.0
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.cg_iterations < 1 or self.damping < 0 or self.tolerance < 0:
            raise UserError(f"{self} needs iterations and cg_iterations >= 1, damping and tolerance >= 0.")

    def solve(self, fit: Fit) -> Solution:
        function = FlatRender(fit.diffrep, fit.views, fit.encode)
        start = achieved = fit.rms()
        slopes: list[float] = []
        for iteration in range(self.iterations + 1):
            render, push, pull = function.linearise(function.flat)
            downhill = pull(fit.target - render)
            slope = math.sqrt(downhill.dot(downhill).item())
            if not math.isfinite(slope):
                raise NonFiniteError(f"the gradient of the fit has a NaN or infinity in iteration {iteration}")
            slopes.append(slope)
            if slope <= self.tolerance * slopes[0] or achieved <= self.tolerance * start:
                return Solution(achieved, start, iteration, Outcome.CONVERGED)
            if iteration == self.iterations:
                break

            def normal(v: Tensor, push: Linear = push, pull: Linear = pull) -> Tensor:
                return pull(push(v)) + self.damping * v

            step = conjugate_gradients(normal, downhill, self.cg_iterations, self.tolerance)
            better = _halve_until_better(fit, function, step, achieved)
            if better is None:
                return Solution(achieved, start, iteration, Outcome.STALLED)
            achieved = better
        return Solution(achieved, start, self.iterations, Outcome.STEPS_EXHAUSTED)


def _halve_until_better(fit: Fit, function: FlatRender, step: Tensor, residual: float) -> float | None:
    """Move by step, ½ step, ¼ step, … until the residual falls and return it; None, and back, if never."""
    point = function.flat
    for halving in range(11):
        function.write(point + step / 2**halving)
        achieved = fit.rms()
        if achieved < residual:
            return achieved
    function.write(point)
    return None
