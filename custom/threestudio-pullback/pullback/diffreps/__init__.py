"""Differentiable representations: modules with render(views) -> images [V,C,H,W] in [−1, 1]."""

from importlib import import_module
from pkgutil import iter_modules

from ..views.cameras import orbit as orbit
from .coordinates import CoordinateImage as CoordinateImage
from .coordinates import pixel_centres as pixel_centres
from .fourier import FourierFeatures as FourierFeatures
from .fourier import FourierImage as FourierImage
from .linear import Linear as Linear
from .mesh_texture import MeshTexture as MeshTexture
from .panorama import EquirectangularGrid as EquirectangularGrid
from .panorama import Panorama as Panorama
from .panorama import SphereImage as SphereImage
from .pixels import Pixels as Pixels
from .point_set import PointSet as PointSet
from .siren import Siren as Siren
from .siren import SirenImage as SirenImage
from .siren import SirenImages as SirenImages
from .voxel import VoxelField as VoxelField

# A file of this folder needs no line above: its classes are exported as they are. The lines are for type checkers.
for _info in iter_modules(__path__):
    _module = import_module(f"{__name__}.{_info.name}")
    _classes = {name: value for name, value in vars(_module).items() if isinstance(value, type)}
    globals().update({n: c for n, c in _classes.items() if c.__module__ == _module.__name__ and not n.startswith("_")})
