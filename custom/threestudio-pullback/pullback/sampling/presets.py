"""Settings that deserve a name: what the tables of docs/results/worlds.md show to be best, for speed or fidelity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..constraints import Constraint
from ..errors import UserError
from .restart import LADDER, Restart


@dataclass(frozen=True)
class Preset:
    """noise: a key of noise.COUPLINGS. constraint: of the system's options. tries: at most so many, see Restart."""

    noise: str
    constraint: str = "none"
    tries: int = 1


PRESETS = {"fast": Preset("shared"), "faithful": Preset("surface", tries=len(LADDER))}
"""fast: all views decide as one, in a single pass; exact for what looks alike from all sides, too alike elsewhere.

faithful: sides that differ may differ, since each has noise of its own, and runs whose views disagree at the end are
taken again, at several times the cost.
"""


def find(name: str) -> Preset:
    """The preset of that name; UserError if there is none."""
    if name not in PRESETS:
        raise UserError(f"preset {name!r} is not known; use one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def retried(
    constraint: Constraint | None, noise: str, tries: int, sigma: float = math.inf, limit: float | None = None
) -> Constraint | None:
    """`constraint` with up to so many tries, see Restart; noise `surface` is tied closer from try to try (LADDER)."""
    if tries == 1:
        return constraint
    return Restart(constraint or Constraint(), LADDER if noise == "surface" else (), sigma, tries, limit=limit)


def preset(name: str) -> dict[str, Any]:
    """noise and constraint for `sample`: `pullback.sample(..., **pullback.preset("faithful"))`; UserError as `find`."""
    found = find(name)
    return {"noise": found.noise, "constraint": retried(None, found.noise, found.tries)}
