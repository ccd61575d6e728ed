"""Each method's measures in the course of its runs: mean and 95 % interval over denoiser calls and over seconds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import stdtrit

AXES = ("nfe", "seconds")
MOST_POINTS = 40


def curves(data: dict[str, Any]) -> dict[str, dict[str, dict[str, list[list[float]]]]]:
    """Returns axis -> measure -> method -> points [x, mean, low, high, runs], for the measures that have points."""
    result: dict[str, dict[str, dict[str, list[list[float]]]]] = {}
    for axis in AXES:
        for measure in data["measures"]:
            for method in data["methods"]:
                runs = [run["curve"] for run in data["runs"] if run["method"] == method["name"]]
                lines = [line for run in runs if len(line := _line(run, axis, measure["name"]))]
                if lines:
                    bounds = (0.0, 1.0) if measure["unit"] == "share" else (-math.inf, math.inf)
                    points = mean_line(lines, *bounds)
                    result.setdefault(axis, {}).setdefault(measure["name"], {})[method["name"]] = points
    return result


def mean_line(lines: list[np.ndarray], least: float = -math.inf, most: float = math.inf) -> list[list[float]]:
    """Averages lines, interpolated linearly, at those of their x that at least half of them reach.

    Args:
        lines: Each [N,2] of x (ascending) and value.
        least: The lowest possible end of the interval.
        most: The highest possible end of the interval.

    Returns:
        Points [x, mean, low, high, lines], at most MOST_POINTS. The interval is Student's t at 95 %, for independent
        lines; for one line it is the mean itself.
    """
    at = np.unique(np.concatenate([line[:, 0] for line in lines]))
    values = np.array([np.interp(at, *line.T, left=np.nan, right=np.nan) for line in lines])
    count = np.isfinite(values).sum(0)
    keep = np.flatnonzero(2 * count >= len(lines))
    if len(keep) > MOST_POINTS:
        keep = keep[np.linspace(0, len(keep) - 1, MOST_POINTS).round().astype(int)]
    points = []
    for i in keep:
        reached = values[np.isfinite(values[:, i]), i]
        n, mean, half = len(reached), reached.mean(), 0.0
        if n > 1:
            half = float(stdtrit(n - 1, 0.975)) * reached.std(ddof=1) / math.sqrt(n)
        points.append([*(float(f"{v:.6g}") for v in (at[i], mean, max(mean - half, least), min(mean + half, most))), n])
    return points


def _line(curve: list[dict[str, Any]], axis: str, measure: str) -> np.ndarray:
    points = {p[axis]: p["measures"][measure] for p in curve if measure in p["measures"]}
    return np.array(sorted(points.items()), dtype=float).reshape(-1, 2)
