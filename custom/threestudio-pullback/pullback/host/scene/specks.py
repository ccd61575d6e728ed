"""Specks: parts of a density that float free of the object, a voxel or two each."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

VISIBLE = 0.01
"""Share of its light that a ray loses in a voxel of matter; what is thinner is no part of anything."""
SHARE = 0.01
"""Voxels of a speck at the most, as a share of the largest part's. Pieces larger than that are meant."""


def find_specks(density: Tensor, spacing: float) -> Tensor:
    """Which voxels belong to specks, or touch one and nothing larger.

    Views disagree a little about an empty backdrop, and a fit explains that by single voxels between the cameras and
    the object. They are seen from few cameras, so later fits hardly correct them.

    Args:
        density: [X, Y, Z], per unit of length.
        spacing: Between neighbours.

    Returns:
        [X, Y, Z] of bool; all false where nothing is dense enough to be seen.
    """
    from scipy import ndimage

    matter = density.cpu().numpy() * spacing > VISIBLE
    labelled: Any = ndimage.label(matter)
    part, count = labelled
    if count < 2:
        return torch.zeros_like(density, dtype=torch.bool)
    sizes = np.bincount(part.ravel())
    sizes[0] = 0
    specks = ((sizes > 0) & (sizes < SHARE * sizes.max()))[part]
    kept = ndimage.binary_dilation(np.logical_and(matter, np.logical_not(specks)))
    near = np.logical_and(ndimage.binary_dilation(specks), np.logical_not(kept))
    return torch.from_numpy(near | specks).to(density.device)
