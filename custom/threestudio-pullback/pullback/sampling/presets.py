"""Settings that deserve a name: what the tables of docs/results/worlds.md show to be best, for speed or fidelity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..errors import UserError
from ..noise import Coupling, Surface
from ..noise import find as find_noise
from .restart import LADDER, Restart, ladder


@dataclass(frozen=True)
class Preset:
    """What a preset stands for.

    Attributes:
        noise: a key of noise.COUPLINGS.
        constraint: a key of constraints.CONSTRAINTS.
        tries: maximum number of attempts, see Restart.
    """

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
        raise UserError(f"preset {name!r} is not known; use one of {', '.join(PRESETS)}")
    return PRESETS[name]


def retried(noise: str | Coupling, tries: int, sigma: float = math.inf, limit: float | None = None) -> Restart | None:
    """Run control for up to so many tries, None for one; noise on a surface is tied closer from try to try
    (`ladder`)."""
    if tries == 1:
        return None
    coupling = find_noise(noise)
    return Restart(None, ladder(coupling) if isinstance(coupling, Surface) else (), sigma, tries, limit=limit)


def preset(name: str) -> dict[str, Any]:
    """noise and restart for `sample`: `pullback.sample(..., **pullback.preset("faithful"))`; UserError as `find`."""
    values = find(name)
    return {"noise": values.noise, "restart": retried(values.noise, values.tries)}
