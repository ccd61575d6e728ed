"""Differentiable representations: modules with render(views) -> images [V,C,H,W] in [−1, 1]."""

from .coordinates import CoordinateImage, pixel_centres
from .fourier import FourierFeatures, FourierImage
from .linear import Linear
from .pixels import Pixels
from .siren import Siren, SirenImage, SirenImages
from .voxel import VoxelField, orbit

__all__ = [
    "CoordinateImage",
    "FourierFeatures",
    "FourierImage",
    "Linear",
    "Pixels",
    "Siren",
    "SirenImage",
    "SirenImages",
    "VoxelField",
    "orbit",
    "pixel_centres",
]
