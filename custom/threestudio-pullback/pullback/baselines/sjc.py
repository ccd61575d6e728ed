"""Score Jacobian chaining (Wang et al. 2023): the score of the noised render, chained through J; no metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..denoiser import Denoiser, per_view
from ..fitting import DiffRep
from ..sampling.state import Result
from .distil import Descent, Step, distil

if TYPE_CHECKING:
    from typing_extensions import Unpack


def gradient(step: Step, variance_reduction: bool) -> Tensor:
    """(y − x̂0)/σ [V,C,H,W], which is −σ times the score at y = u + σε; with variance reduction (u − x̂0)/σ.

    The two differ by ε, whose mean is 0.
    """
    level, noise = step.random_level(), step.noise()
    sigma = per_view(level, step.clean)
    x0 = step.denoise(step.clean + sigma * noise, level)
    predicted = (step.clean - x0) / sigma
    return predicted if variance_reduction else predicted + noise


def sample(
    diffrep: DiffRep,
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    variance_reduction: bool = True,
    **descent: Unpack[Descent],
) -> Result:
    """SJC on the diffrep's parameters; seeks modes like SDS, with every level weighted alike.

    Args:
        diffrep: As for `sds.sample`.
        views: As for `sds.sample`.
        denoise: As for `sds.sample`.
        sigmas: As for `sds.sample`.
        variance_reduction: Whether ε, whose mean is 0, is taken out of the gradient, as in the authors' code; their
            paper's formula leaves it in.
        **descent: See `Descent`.
    """
    return distil(diffrep, views, denoise, sigmas, lambda step: gradient(step, variance_reduction), **descent)
