"""Separated noise: which white noise each view sees, and what of it is kept along the path; a file per coupling."""

from __future__ import annotations

from ..errors import UserError
from .coupling import Coupling, White, refresh, white
from .independent import Independent
from .shared import Shared
from .smooth import Smooth
from .spherical import Spherical
from .surface import Surface

__all__ = [
    "COUPLINGS",
    "Coupling",
    "Independent",
    "Shared",
    "Smooth",
    "Spherical",
    "Surface",
    "White",
    "find",
    "refresh",
    "white",
]

COUPLINGS: dict[str, Coupling] = {
    "shared": Shared(),
    "independent": Independent(),
    "fresh": Independent(kept=False),
    "smooth": Smooth(),
    "surface": Surface(),
    "spherical": Spherical(),
}


def find(noise: str | Coupling) -> Coupling:
    """The coupling of that name (a key of COUPLINGS), or the object itself; UserError if there is none."""
    if isinstance(noise, str):
        if noise not in COUPLINGS:
            raise UserError(f"noise {noise!r} is not known; use one of {', '.join(COUPLINGS)}.")
        return COUPLINGS[noise]
    return noise
