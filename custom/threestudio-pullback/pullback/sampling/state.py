"""What stands between two visits of the sampler, and what a finished run returns."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .consistency import Verdict

SAVED = ("level", "cycle", "noise", "memory", "residual", "nfe", "rng", "attempt", "anchor", "sigmas", "cycles")
"""The fields of a state that its `state_dict` holds as they are."""


@dataclass(frozen=True)
class State:
    """Where the path stands between two visits; plain values.

    Attributes:
        level, cycle: the visit that comes next.
        sigma: σ of that level, 0 at the end.
        noise: the coupling's source; None before the first visit.
        memory: what the constraint keeps between visits.
        residual: rms of the last fit, in the units of the fitted images.
        nfe: denoiser calls so far; each view counts singly, a guided one twice.
        record: the last visit as a dict of plain values.
        rng: the generator's state.
        attempt: restarts so far. anchor: where a restart goes back to. verdict: of the check at the end, if there was
            one.
        sigmas, cycles: of the run, which a resumed one must share.
        params, solver: θ and the solver's memory. They share memory with the run and move with it.
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
    params: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor], repr=False, compare=False)
    solver: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)

    def state_dict(self, with_params: bool = True) -> dict[str, Any]:
        """Tensors and plain values only; `torch.load(weights_only=True)` reads it, `Sampler.restore` goes on.

        Args:
            with_params: add a copy of θ and of the solver's memory as they are now, so call it before the next visit;
                leave them out where a framework's own checkpoint holds them.
        """
        saved = {name: getattr(self, name) for name in SAVED}
        if with_params:
            saved["params"] = {name: value.detach().clone() for name, value in self.params.items()}
            saved["solver"] = copy.deepcopy(dict(self.solver))
        return saved


@dataclass(frozen=True)
class Result:
    """What a finished run returns.

    Attributes:
        renders: [V,C,H,W], of the fixed views or of a last fresh draw.
        nfe: denoiser calls of the sampling.
        history: one dict of plain values per visit.
        consistency, threshold: see `Verdict`; above the threshold the renders are likely a blend.
    """

    renders: Tensor
    nfe: int
    history: list[dict[str, Any]]
    consistency: float
    threshold: float
