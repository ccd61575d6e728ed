"""Separated noise: the white noise of each view, and its source, which is kept along the path; a file per coupling."""

from __future__ import annotations

from ..named import Choice
from .coupling import COUPLINGS, Coupling, White, refresh, white
from .independent import Independent
from .shared import Shared
from .slot import Slot
from .smooth import Smooth
from .spherical import Spherical
from .surface import Surface

__all__ = [
    "COUPLINGS",
    "Coupling",
    "Independent",
    "Shared",
    "Slot",
    "Smooth",
    "Spherical",
    "Surface",
    "White",
    "find",
    "refresh",
    "white",
]

COUPLINGS.discover(__name__, __path__)


def find(noise: Choice[Coupling]) -> Coupling:
    """The coupling of a name, of `{"type": name, option: value}`, or the object itself; errors as `Named.find`."""
    return COUPLINGS.find(noise)
