"""What stands between two visits of the sampler, and what a finished run returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from .consistency import Judged
    from .sampler import Sampler


@dataclass(frozen=True)
class State:
    """Where the path stands between two visits.

    level, cycle: the visit that comes next. sigma: σ of that level, 0 at the end. noise: the coupling's
    source, None before the first visit. memory: what the constraint keeps between visits. residual: rms of the
    last fit, in the units of the fitted images. nfe: denoiser calls so far, each view counted singly, guided
    ones twice. record: the last visit as a dict of plain values. rng: the generator's state.
    """

    sampler: Sampler
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
    judged: Judged | None = None

    def state_dict(self, with_params: bool = True) -> dict[str, Any]:
        """Tensors and plain values only; `torch.load(weights_only=True)` reads it, `Sampler.restore` goes on.

        with_params adds the diffrep's and the solver's present state, so call it before the next visit; leave
        them out where a framework's own checkpoint holds them.
        """
        saved: dict[str, Any] = {
            "level": self.level,
            "cycle": self.cycle,
            "noise": self.noise,
            "memory": self.memory,
            "residual": self.residual,
            "nfe": self.nfe,
            "rng": self.rng,
            "attempt": self.attempt,
            "anchor": self.anchor,
            "sigmas": self.sampler.sigmas,
            "cycles": self.sampler.constraint.cycles,
        }
        if with_params:
            saved["params"] = {k: v.detach().clone() for k, v in self.sampler.diffrep.state_dict().items()}
            saved["solver"] = self.sampler.solver.state_dict()
        return saved


@dataclass(frozen=True)
class Result:
    """renders: [V,C,H,W], of the fixed views or of a last fresh draw. nfe: denoiser calls of the sampling.

    history: one dict of plain values per visit. consistency, threshold: see consistency.Judged; above the threshold the
    renders are likely a blend.
    """

    renders: Tensor
    nfe: int
    history: list[dict[str, Any]]
    consistency: float
    threshold: float
