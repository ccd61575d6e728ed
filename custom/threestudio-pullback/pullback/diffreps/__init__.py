"""Differentiable representations: modules with render(views) -> images [V,C,H,W] in [−1, 1]."""

from .coordinates import CoordinateImage, pixel_centres
from .linear import Linear
from .pixels import Pixels
from .siren import Siren, SirenImage
from .voxel import VoxelField, orbit

__all__ = [
    "CoordinateImage",
    "Linear",
    "Pixels",
    "Siren",
    "SirenImage",
    "VoxelField",
    "orbit",
    "pixel_centres",
]
