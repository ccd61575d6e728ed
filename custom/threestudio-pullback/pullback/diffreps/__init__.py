"""Differentiable representations: modules with render(views) -> images [V,C,H,W] in [−1, 1]."""

from .linear import Linear
from .pixels import Pixels
from .siren import SirenImage
from .voxel import VoxelField, orbit

__all__ = ["Linear", "Pixels", "SirenImage", "VoxelField", "orbit"]
