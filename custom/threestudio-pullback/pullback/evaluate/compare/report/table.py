"""The table of a comparison: every measure with its intervals, marks for the best, and the format of numbers."""

from __future__ import annotations

import math
from typing import Any

TITLES = {name: name.capitalize() for name in ("quality", "diversity", "consistency", "reliability", "cost")}
ENDED = {
    "name": "not-done", "title": "Diverged or failed", "group": "reliability", "better": "lower", "unit": "share",
    "source": "Share of the runs that diverged or failed; Wilson's 95 % interval for a proportion.",
}  # fmt: skip
THIN = "\u202f"  # a narrow space that no line breaks at
FEWEST = 5
"""Values of the smallest mean that has an interval: a bootstrap of fewer is too narrow to compare by."""
LACKING = {
    "kid": "needs three seeds of a prompt",
    "diversity": "needs two seeds of a prompt",
    "clip_score": "needs --clip", "r_precision": "needs --clip", "clip_iqa": "needs --clip",
}  # fmt: skip
"""Why a method may have no value; elsewhere none of its runs came that far."""


def table(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the columns in the order of TITLES: each measure with `cells`, method -> cell; see `_cells`."""
    rows: dict[str, dict[str, dict[str, float]]] = {measure["name"]: {} for measure in data["measures"]}
    for row in data["summary"]:
        rows[row["measure"]][row["method"]] = row
    columns = [measure | {"cells": _cells(rows[measure["name"]], measure)} for measure in data["measures"]]
    columns.append(ENDED | {"cells": _cells(_unfinished_share(data), ENDED)})
    columns = [column | {"lacking": LACKING.get(column["name"], "no run has it")} for column in columns]
    return sorted(columns, key=lambda column: list(TITLES).index(column["group"]))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of a proportion (Wilson 1927); count ≥ 1."""
    z = 1.959964
    middle = (hits + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * math.sqrt(hits * (count - hits) / count + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def compact(value: float, unit: str = "") -> str:
    """Formats a number with three significant digits and its unit; a share is in per cent."""
    if unit == "share":
        percent = 100 * value
        return f"{f'{percent:.0f}' if abs(percent) >= 9.95 or percent == 0 else f'{percent:.2g}'}{THIN}%"
    whole = value == round(value) or abs(value) >= 999.5
    digits = f"{value:,.0f}".replace(",", THIN) if whole and abs(value) < 1e9 else f"{value:#.3g}".rstrip(".")
    return f"{digits}{THIN}{unit}" if unit else digits


def _unfinished_share(data: dict[str, Any]) -> dict[str, dict[str, float]]:
    shares = {}
    for method in data["methods"]:
        ends = [run["status"] != "done" for run in data["runs"] if run["method"] == method["name"]]
        if ends:
            low, high = wilson(sum(ends), len(ends))
            shares[method["name"]] = {"mean": sum(ends) / len(ends), "low": low, "high": high, "count": len(ends)}
    return shares


def _cells(rows: dict[str, dict[str, float]], measure: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The cell of each method: its row, the ends of its bar in per cent, and `mark`.

    `mark` is "best", "near" where the interval overlaps the best's, or "". A mean without an interval is not the best.
    """
    if not rows:
        return {}
    least, most = min(row["low"] for row in rows.values()), max(row["high"] for row in rows.values())
    span = (most - least) or 1.0
    means = [row["mean"] for row in rows.values()]
    top = (max(means) if measure["better"] == "higher" else min(means)) if measure["better"] else None
    tops = [row for row in rows.values() if row["mean"] == top]
    cells = {}
    for method, row in rows.items():
        mark = ""
        if tops and len(tops) < len(rows):
            near = any(overlap(row, best) for best in tops)
            mark = "best" if row["mean"] == top and _sure(row) else "near" if near else ""
        start, end, dot = (round(100 * (row[key] - least) / span, 1) for key in ("low", "high", "mean"))
        bar = {"start": start, "width": round(end - start, 1), "dot": dot}
        cells[method] = row | {"mark": mark, "sure": _sure(row)} | bar
    return cells


def overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    """Whether both have intervals, and these overlap."""
    return _sure(a) and _sure(b) and a["low"] <= b["high"] and b["low"] <= a["high"]


def _sure(row: dict[str, float]) -> bool:
    """Whether a row has an interval: the mean of few values has none."""
    return row["count"] >= FEWEST
