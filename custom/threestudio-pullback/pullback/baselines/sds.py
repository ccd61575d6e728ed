"""Score distillation sampling (Poole et al. 2023, "DreamFusion"): w(σ) Jᵀ(ε̂ − ε) with random σ and fresh ε."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..denoiser import Denoiser, per_view
from ..errors import UserError
from ..fitting import DiffRep
from ..sampling.state import Result
from .distil import Descent, Step, distil

if TYPE_CHECKING:
    from typing_extensions import Unpack

WEIGHTS: dict[str, Callable[[Any], Any]] = {
    "sds": lambda sigma: sigma**2 / (1 + sigma**2),
    "uniform": lambda sigma: 1.0,
    "fantasia3d": lambda sigma: sigma**2 / (1 + sigma**2) ** 1.5,
    "x0": lambda sigma: sigma,
}
"""w(σ) by name. With ᾱ = 1/(1 + σ²): 1 − ᾱ (DreamFusion), 1, √ᾱ (1 − ᾱ) (Chen et al. 2023, "Fantasia3D"), and σ, by
which u descends u − x̂0 (Lukoianov et al. 2024)."""


def weight_of(name: str, sigma: Any) -> Any:
    """w(σ) of a number or a tensor.

    Raises:
        UserError: WEIGHTS has no such name.
    """
    if name not in WEIGHTS:
        raise UserError(f"weight {name!r} is not known; use one of {', '.join(WEIGHTS)}")
    return WEIGHTS[name](sigma)


def gradient(step: Step, weight: str) -> Tensor:
    """w(σ) (ε̂ − ε) = w(σ) (u − x̂0)/σ [V,C,H,W] at a random level."""
    level = step.random_level()
    sigma = per_view(level, step.clean)
    x0 = step.denoise(step.clean + sigma * step.noise(), level)
    return weight_of(weight, sigma) * (step.clean - x0) / sigma


def sample(
    diffrep: DiffRep,
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    weight: str = "sds",
    **descent: Unpack[Descent],
) -> Result:
    """SDS on the diffrep's parameters. It seeks a mode of the smoothed model, whatever the noise, and does not sample.

    A step costs one denoiser call per view.

    Args:
        diffrep: As for pullback.Sampler.
        views: As for pullback.Sampler.
        denoise: As for pullback.Sampler; guidance (100 in DreamFusion) is the denoiser's.
        sigmas: 1-D, decreasing, ending in 0; each positive one is equally likely in every step.
        weight: A key of WEIGHTS.
        **descent: See `Descent`.

    Raises:
        UserError: An argument is out of range.
        NonFiniteError: A NaN or infinity.
    """
    weight_of(weight, 1.0)
    return distil(diffrep, views, denoise, sigmas, lambda step: gradient(step, weight), **descent)
