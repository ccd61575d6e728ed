"""The state between two visits of the sampler, and the result of a finished run."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .consistency import Verdict

SAVED = (
    "level", "cycle", "noise", "memory", "residual", "nfe", "rng", "attempt", "anchor", "sigmas", "cycles",
    "denoiser", "past", "coupling",
)  # fmt: skip
"""The fields of a state that its `state_dict` holds unchanged."""


@dataclass(frozen=True)
class State:
    """The position of the path between two visits, in plain values.

    Attributes:
        level: Index of the next visit's level.
        cycle: The next visit's number within its level.
        sigma: σ of that level, 0 at the end.
        noise: The coupling's source; None before the first visit.
        memory: What the constraint keeps between visits.
        residual: Root mean square of the last fit, in the units of the fitted images.
        nfe: Denoiser calls so far; each view counts, and a guided one counts twice.
        record: The last visit as a dict of plain values.
        rng: The generator's state.
        attempt: Restarts so far.
        anchor: The place that a restart goes back to.
        coupling: Index of the noise's coupling in `Restart.noises`; the last one's where it is larger.
        verdict: Of the check at the end, if there was one.
        sigmas: The run's levels; a resumed run must have the same.
        cycles: The run's visits per level; a resumed run must have the same.
        denoiser: What the denoiser keeps, its `memory`; None for most.
        past: The steps before, for an integrator that needs them.
        params: θ. Its tensors are the run's own and move with it.
        solver: The solver's memory. Its tensors are the run's own and move with it.
    """

    level: int
    cycle: int
    sigma: float
    noise: Tensor | None
    memory: Tensor | None
    residual: float
    nfe: int
    record: dict[str, Any]
    rng: Tensor
    attempt: int = 0
    anchor: dict[str, Any] | None = None
    verdict: Verdict | None = None
    sigmas: list[float] = field(default_factory=list[float], repr=False)
    cycles: int = 1
    denoiser: Any = None
    past: tuple[dict[str, Any], ...] = field(default=(), repr=False, compare=False)
    coupling: int = 0
    params: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor], repr=False, compare=False)
    solver: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)

    def state_dict(self, with_params: bool = True) -> dict[str, Any]:
        """Tensors and plain values only; `torch.load(weights_only=True)` reads it, `Sampler.restore` goes on.

        Args:
            with_params: Whether to add copies of the present θ and solver's memory, which the next visit changes. Leave
                them out where a framework's own checkpoint holds them.
        """
        saved = {name: getattr(self, name) for name in SAVED}
        if with_params:
            saved["params"] = {name: value.detach().clone() for name, value in self.params.items()}
            saved["solver"] = copy.deepcopy(dict(self.solver))
        return saved


@dataclass(frozen=True)
class Result:
    """The result of a finished run.

    Attributes:
        renders: [V,C,H,W], of the fixed views or of a last fresh draw.
        nfe: Denoiser calls of the sampling; each view counts, also one of a group that is denoised together.
        history: One dict of plain values per visit.
        consistency: See `Verdict`; above the threshold the renders are likely a blend, if the check can tell.
        threshold: See `Verdict`.
        tells: Whether the check can tell, see `Verdict`.
    """

    renders: Tensor
    nfe: int
    history: list[dict[str, Any]]
    consistency: float
    threshold: float
    tells: bool = True
