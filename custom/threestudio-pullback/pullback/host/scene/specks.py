"""Specks: what floats free of the object, a voxel or two each, and what hangs on it as a loose cloud of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

VISIBLE = 0.01
"""Share of its light that a ray loses in a voxel of matter; what is thinner is no part of anything."""
SHARE = 0.01
"""Voxels of a speck at the most, as a share of the largest part's. Pieces larger than that are meant."""
WIDTH = 5
"""Voxels a side of the cube in which matter is looked at for being loose."""
LOOSE = 0.19
"""Mean density in that cube, as a share of what the object's matter has about itself. A corner of a solid block has
27/125 = 0.216, a sheet one voxel thick 0.2."""


def find_specks(density: Tensor, spacing: float) -> Tensor:
    """Which voxels belong to specks, or touch one and nothing larger.

    Views disagree a little about an empty backdrop, and a fit explains that by single voxels between the cameras and
    the object, or by a sparse cloud below it. They are seen from few cameras, so later fits hardly correct them.

    Args:
        density: [X, Y, Z], per unit of length.
        spacing: Between neighbours.

    Returns:
        [X, Y, Z] of bool; all false where nothing is dense enough to be seen.
    """
    from scipy import ndimage

    depth = density.double().cpu().numpy() * spacing
    matter = depth > VISIBLE
    if not matter.any():
        return torch.zeros_like(density, dtype=torch.bool)
    around = ndimage.uniform_filter(depth, WIDTH, mode="constant")
    labelled: Any = ndimage.label(matter & (around >= LOOSE * np.average(around, weights=depth)))
    part = labelled[0]
    sizes = np.bincount(part.ravel())
    sizes[0] = 0
    large = (sizes >= max(1, SHARE * sizes.max()))[part]
    kept = np.logical_and(ndimage.binary_dilation(large), matter)
    specks = np.logical_and(matter, np.logical_not(kept))
    near = np.logical_and(ndimage.binary_dilation(specks), np.logical_not(ndimage.binary_dilation(kept)))
    return torch.from_numpy(near | specks).to(density.device)
