"""Stand-in for torchvision; transformers, where it sees one, reads its version and makes a table of its modes."""

from enum import Enum

from pullback.cuda_standins.absent import stand_in

__version__ = "0"


class InterpolationMode(Enum):
    """Ways to resize a picture, as torchvision names them."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


stand_in(__name__, "install it: pip install torchvision", InterpolationMode=InterpolationMode)
