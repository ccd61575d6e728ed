"""Differentiable representations: modules with render(views) -> images [V,C,H,W] in [−1, 1]."""

from ..views.cameras import orbit
from .coordinates import CoordinateImage, pixel_centres
from .fourier import FourierFeatures, FourierImage
from .linear import Linear
from .panorama import EquirectangularGrid, Panorama, SphereImage
from .pixels import Pixels
from .siren import Siren, SirenImage, SirenImages
from .voxel import VoxelField

__all__ = [
    "CoordinateImage",
    "EquirectangularGrid",
    "FourierFeatures",
    "FourierImage",
    "Linear",
    "Panorama",
    "Pixels",
    "Siren",
    "SirenImage",
    "SirenImages",
    "SphereImage",
    "VoxelField",
    "orbit",
    "pixel_centres",
]
