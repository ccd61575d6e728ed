"""MultiDiffusion: the crops of one panorama are denoised one by one, and averaged at every noise level.

Source: Bar-Tal et al. 2023, "MultiDiffusion: Fusing Diffusion Paths for Controlled Image Generation". There the
panorama is a flat noisy image J and each crop a cut-out F_i(J); a level takes every crop one DDIM step down, and J
becomes the least-squares fit to all of them: pixel by pixel, their mean (equation 5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..diffreps.panorama import EquirectangularGrid
from ..fitting.linearise import FlatRender
from ..fitting.problem import Fit, Outcome, Solution
from ..fitting.solvers import Solver
from ..noise import Coupling
from ..sampling import loops
from ..sampling.state import Result, State


class Averaging(Solver):
    """θ ← θ + Jᵀ(target − u)/Jᵀ1: each pixel moves by the mean of what its crops lack.

    For renders that are linear in θ with weights of at least 0; the mean is weighted by how much of the pixel each
    crop's pixel shows. Where crops are cut-outs each pixel becomes the mean of its targets. What no crop shows stays.
    """

    def solve(self, fit: Fit) -> Solution:
        """Moves the panorama's pixels once."""
        start = fit.rms()
        function = FlatRender(fit.diffrep, fit.views, fit.encode)
        render, _, pull = function.linearise(function.flat)
        shown = pull(torch.ones_like(render))
        change = torch.where(shown > 1e-6, pull(fit.target - render) / shown.clamp(min=1e-6), 0)
        function.write(function.flat + change)
        return Solution(fit.rms(), start, 1, Outcome.STEPS_EXHAUSTED)


def sample(
    panorama: EquirectangularGrid,
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    noise: str | Coupling = "spherical",
    generator: torch.Generator | None = None,
    callback: Callable[[State], None] | None = None,
) -> Result:
    """Samples the panorama's pixels, with one denoiser call per crop and level.

    Crops of a sphere are no cut-outs: white noise interpolated onto their pixels would not be white. So J = m + σ n is
    kept in two parts, the panorama m and one noise n on the sphere, which every crop sees as unit white noise. The DDIM
    step of a crop has the target (σ'/σ) u + (1 − σ'/σ) x̂0, to which `Averaging` moves the panorama.

    Args:
        panorama: Its pixels are θ.
        views: Crops that cover the panorama, the same at all levels in the source; a callable draws them at every
            level.
        denoise: As for pullback.sample.
        sigmas: As for pullback.sample.
        noise: As for pullback.sample.
        generator: As for pullback.sample.
        callback: As for pullback.sample.

    Raises:
        NonFiniteError: A NaN or infinity.
    """
    return loops.sample(
        panorama, views, denoise, sigmas, noise=noise, solver=Averaging(), generator=generator, callback=callback
    )
