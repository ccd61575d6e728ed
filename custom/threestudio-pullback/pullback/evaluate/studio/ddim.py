"""Samples of a model itself, without a representation."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from ... import models


@torch.no_grad()
def ddim(denoise: models.GuidedDenoiser, noisy: Tensor, sigmas: list[float], views: Any) -> Tensor:
    """Samples latents [V,c,h,w] by DDIM (Song et al. 2021), Euler's method in VE coordinates.

    Args:
        denoise: The denoiser.
        noisy: y = σ ε at the first of the levels.
        sigmas: Noise levels, descending.
        views: The denoiser's views.
    """
    for sigma, following in itertools.pairwise(sigmas):
        x0 = denoise(noisy, sigma, views)
        noisy = x0 + following / sigma * (noisy - x0)
    return noisy
