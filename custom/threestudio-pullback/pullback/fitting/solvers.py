"""The fit of one level: move θ so that the renders reach their targets, argmin_θ Σ_i ‖f(θ, π_i) − target_i‖².

The exact step of the pulled-back flow is (Σ JᵀJ)⁺ Σ Jᵀ(target − u), not Σ Jᵀ(target − u): without the inverse
metric the path of rendered images would depend on how f is parametrised (Savani et al. 2024, section 3).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import NonFiniteError, UserError, fault
from .diffrep import DiffRep
from .linearise import FlatRender, Linear, conjugate_gradients, trainable
from .problem import Fit, Outcome, Solution, check_steps, norms


class Solver:
    """Base of the solvers: `solve` moves the diffrep's parameters; `state_dict` holds the memory between visits."""

    def start(self, diffrep: DiffRep) -> None:
        """Forgets earlier runs: a new one begins, with this diffrep."""

    def solve(self, fit: Fit) -> Solution:
        """Moves the parameters towards the fit's minimum.

        Raises:
            NonFiniteError: A NaN or infinity.
        """
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The solver's memory. Its tensors may be the solver's own, as those of PyTorch's optimisers are."""
        return {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Sets the memory to what `state_dict` returned."""


@dataclass
class FirstOrder(Solver):
    """`steps` steps of a first-order optimiser on the mean square residual; needs only backward passes.

    A rank-deficient fit has many minima, and the optimiser decides in which one it ends; use GaussNewton where that
    matters. The steps are taken without waiting for the device; what they say is read once, at the end.

    Args:
        lr: Learning rate of Adam, above 0. Adam's moments live as long as the run: with new ones at every visit it
            would move every parameter by `lr` in its first step, however near the fit is.
        steps: At least 1.
        optimizer: Another optimiser, with its own learning rate; Adam over the parameters that require gradients if
            None.

    Raises:
        UserError: A value is out of range.
    """

    lr: float = 0.01
    steps: int = 20
    optimizer: torch.optim.Optimizer | None = field(default=None, repr=False)
    _kept: torch.optim.Optimizer | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.lr < math.inf:
            raise UserError(f"FirstOrder needs steps >= 1 and lr > 0, not {self.steps} and {self.lr}")

    def start(self, diffrep: DiffRep) -> None:
        """Begins with new moments, unless the caller's optimiser keeps its own."""
        self._kept = self.optimizer or torch.optim.Adam(trainable(diffrep).values(), lr=self.lr)

    def solve(self, fit: Fit) -> Solution:
        """Takes the steps. A NaN or infinity is found after them, and all parameters and moments are put back."""
        if self._kept is None:
            self.start(fit.diffrep)
        parameters, optimizer = list(trainable(fit.diffrep).values()), cast(torch.optim.Optimizer, self._kept)
        before = [p.detach().clone() for p in parameters], copy.deepcopy(optimizer.state_dict())
        losses: list[tuple[Tensor, int]] = []  # of each view, and of how many entries in all
        slopes: list[Sequence[Tensor]] = []  # a part may depend on some parameters only
        residuals = fit.residuals(self.steps + 1)
        for _ in range(self.steps):
            optimizer.zero_grad()
            with torch.enable_grad():
                residual = next(residuals)
                losses.append((norms(residual), residual.numel()))
                # the gradient of the mean square, without the launches of the square and of two means
                torch.autograd.backward(residual, residual.detach() * (2 / residual.numel()))
            gradients = [p.grad for p in parameters if p.grad is not None]
            # one launch for all, as in clip_grad_norm_
            slopes += [torch._foreach_norm(gradients)]  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
            optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            residual = next(residuals)
            losses.append((norms(residual), residual.numel()))
        try:
            start, achieved = self._read(fit, losses, slopes)
        except NonFiniteError:
            with torch.no_grad():
                for parameter, value in zip(parameters, before[0], strict=True):
                    parameter.copy_(value)
            optimizer.load_state_dict(before[1])
            raise
        outcome = Outcome.STEPS_EXHAUSTED if achieved <= start else Outcome.DIVERGED
        return Solution(achieved, start, self.steps, Outcome.CONVERGED if achieved == 0 else outcome)

    def _read(self, fit: Fit, losses: list[tuple[Tensor, int]], slopes: list[Sequence[Tensor]]) -> tuple[float, float]:
        """Root mean square residual before and after the steps, with the one wait of a visit."""
        lists = fit.checks.read(*(loss for loss, _ in losses), *(slope.view(1) for step in slopes for slope in step))
        by_view, lengths = lists[: len(losses)], (length for (length,) in lists[len(losses) :])
        check_steps(by_view, [list(islice(lengths, len(step))) for step in slopes])
        return math.hypot(*by_view[0]) / losses[0][1] ** 0.5, math.hypot(*by_view[-1]) / losses[-1][1] ** 0.5

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's."""
        return self._kept.state_dict() if self._kept else {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Sets the optimiser's memory to a copy of `saved`."""
        if self._kept and saved:
            self._kept.load_state_dict(copy.deepcopy(saved))


@dataclass
class GaussNewton(Solver):
    """Gauss–Newton: (JᵀJ + damping·I) δ = Jᵀ(target − u) by conjugate gradients, J only as jvp and vjp.

    Conjugate gradients from 0 stay in the row space of J, so with damping 0 a rank-deficient fit takes the minimum-norm
    step. A step that does not lower the residual is halved, up to 10 times. The render must have forward-mode
    derivatives; without them `solve` raises UserError. Source: Nocedal & Wright 2006, section 10.3.

    Args:
        iterations: Of Gauss–Newton, at least 1.
        cg_iterations: Of conjugate gradients in each of them, at least 1.
        damping: At least 0, in units of JᵀJ, summed over views, channels and pixels.
        tolerance: The fit has converged where the gradient or the residual fell to this share of its start.

    Raises:
        UserError: A value is out of range.
    """

    iterations: int = 2
    cg_iterations: int = 10
    damping: float = 0.0
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        limits = self.damping, self.tolerance
        if self.iterations < 1 or self.cg_iterations < 1 or not all(0 <= x < math.inf for x in limits):
            raise UserError(f"{self} needs iterations and cg_iterations >= 1, finite damping and tolerance >= 0")

    def solve(self, fit: Fit) -> Solution:
        """Takes the iterations, or fewer where the fit converges or stalls."""
        function = FlatRender(fit.diffrep, fit.views, fit.encode)
        start = achieved = fit.rms()
        slopes: list[float] = []
        for iteration in range(self.iterations + 1):
            render, push, pull = function.linearise(function.flat)
            downhill = pull(fit.target - fit.checks.expect(render, "the fit"))
            ((square,),) = fit.checks.read(downhill.dot(downhill).view(1))
            slope = math.sqrt(square)
            if wrong := fault(slope):
                raise NonFiniteError(f"the gradient of the fit has {wrong} in iteration {iteration}")
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
    """Moves by step, ½ step, ¼ step, … until the residual falls; returns it, or None if it never falls."""
    point = function.flat
    for halving in range(11):
        function.write(point + step / 2**halving)
        with suppress(*[NonFiniteError] * (halving < 10)):  # a long step may lead out of the range of numbers
            if (achieved := fit.rms()) < residual:
                return achieved
    function.write(point)
    return None
