"""Settings by name: the best of the tables of docs/results/worlds.md, for speed or fidelity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import UserError
from ..noise import Coupling, Surface
from ..noise import find as find_noise
from .restart import TRIES, Restart, ladder


@dataclass(frozen=True)
class Preset:
    """The settings of a preset.

    Attributes:
        noise: A key of noise.COUPLINGS.
        constraint: A key of constraints.CONSTRAINTS.
        tries: Maximum number of attempts, see Restart.
    """

    noise: str
    constraint: str = "none"
    tries: int = 1


PRESETS = {"fast": Preset("shared"), "faithful": Preset("surface", tries=TRIES)}
"""fast: all views have the same noise, in a single pass. It is exact for objects that look alike from all sides; those
that differ from side to side come out too alike.

faithful: each side has noise of its own, so sides may differ. A run whose views disagree at the end begins again, at
several times the cost.
"""


def find(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UserError: There is none.
    """
    if name not in PRESETS:
        raise UserError(f"preset {name!r} is not known; use one of {', '.join(PRESETS)}")
    return PRESETS[name]


def retried(
    noise: str | Coupling, tries: int, sigma: float | None = None, limit: float | None = None
) -> Restart | None:
    """Run control.

    Args:
        noise: The sampler's; the views' noises on a surface agree more from try to try (`ladder`).
        tries: Maximum number of attempts.
        sigma: See Restart.
        limit: See Restart.

    Returns:
        None for a single try.
    """
    if tries == 1:
        return None
    coupling = find_noise(noise)
    return Restart(None, ladder(coupling) if isinstance(coupling, Surface) else (), sigma, tries, limit=limit)


def preset(name: str) -> dict[str, Any]:
    """The arguments noise and restart of `sample`: `pullback.sample(..., **pullback.preset("faithful"))`.

    Raises:
        UserError: There is no such preset.
    """
    values = find(name)
    return {"noise": values.noise, "restart": retried(values.noise, values.tries)}
