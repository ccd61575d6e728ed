"""Differentiable representations: modules with render(views) -> images [V,C,H,W] in [−1, 1]."""

from ..views.cameras import orbit as orbit
from .coordinates import CoordinateImage as CoordinateImage
from .coordinates import pixel_centres as pixel_centres
from .fourier import FourierFeatures as FourierFeatures
from .fourier import FourierImage as FourierImage
from .linear import Linear as Linear
from .panorama import EquirectangularGrid as EquirectangularGrid
from .panorama import Panorama as Panorama
from .panorama import SphereImage as SphereImage
from .pixels import Pixels as Pixels
from .siren import Siren as Siren
from .siren import SirenImage as SirenImage
from .siren import SirenImages as SirenImages
from .voxel import VoxelField as VoxelField
