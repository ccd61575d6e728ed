"""Ways of doing the same thing, timed by turns (A B A B …) so that a busy machine is equally unkind to each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import TypeVar

Measured = TypeVar("Measured")


def by_turns(ways: Mapping[str, Callable[[], Measured]], repeats: int) -> dict[str, list[Measured]]:
    """Runs every way `repeats` times, interleaved; returns each way's results in the order of their runs."""
    results: dict[str, list[Measured]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            results[name].append(run())
    return results


def spread(values: list[float], digits: int = 3) -> str:
    """min/median/max."""
    return "/".join(f"{v:.{digits}g}" for v in (min(values), statistics.median(values), max(values)))


def ratio(values: list[float], base: list[float]) -> str:
    """How many times the base's median this median is."""
    return f"{statistics.median(values) / statistics.median(base):.2f}"
