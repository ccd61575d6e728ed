"""Tables and pictures of a folder of results."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ...output import chart, whole
from ...output.contact_sheet import contact_sheet
from ...output.markdown import measure_table
from ..campaign import Results
from .methods import Variant
from .protocol import World
from .runner import Task, saved_picture
from .worlds import about, world


def measures(where: World, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One method's line: the world's measures, then the cost, then the means of the method's own numbers."""
    good = [row for row in rows if "failed" not in row]
    figures: dict[str, Any] = {"failed": len(rows) - len(good)} if len(good) < len(rows) else {}
    if not good:
        return figures
    figures |= where.measures([row["judged"] for row in good])
    nfe = [row["nfe"] for row in good]
    figures["evaluations"] = sum(nfe) / len(nfe)
    if max(nfe) > min(nfe):
        figures["evaluations max"] = max(nfe)
    figures["seconds"] = sum(row["seconds"] for row in good) / len(good)
    for key in good[0]["extra"]:
        values = [row["extra"][key] for row in good if key in row["extra"]]
        if all(isinstance(value, (int, float)) for value in values):
            figures[key] = sum(values) / len(values)
    return figures


def write(results: Results, names: list[str], variants: list[Variant], seeds: list[int]) -> str:
    """Writes OUT/worlds.md, with a table for each world, and its pictures; returns the text."""
    out, labels = results.out, [method.label for method in variants]
    command = ["pullback", "evaluate", "worlds", "--world", ",".join(names)]
    command += [word for label in labels for word in ("--method", label)]
    command += ["--seeds", ranges(seeds), "--out", str(out)]
    text = f"# Known-answer worlds\n\n`{shlex.join(command)}`\n"
    for name in names:
        where = world(name)
        rows = {label: [row for row in results.of(name, label) if row["seed"] in seeds] for label in labels}
        commits = sorted({row["commit"] for group in rows.values() for row in group})
        text += f"\n## {name}\n\n{about(name)}\nCommit {', '.join(commits)}.\n\n"
        text += measure_table({label: measures(where, group) for label, group in rows.items()})
        text += "".join(f"\n![{made.stem}]({made.relative_to(out)})\n" for made in _pictures(where, rows, out))
    whole.write(out / "worlds.md", text)
    return text


def _pictures(where: World, rows: dict[str, list[dict[str, Any]]], out: Path) -> list[Path]:
    """Draws the world's contact sheet and its histogram, if it has them; returns their files."""
    good = {label: [row for row in group if "failed" not in row] for label, group in rows.items()}
    good = {label: group for label, group in good.items() if group}
    made = []
    samples = {label: [_sample(out, row) for row in group] for label, group in good.items()}
    if samples and next(iter(samples.values()))[0][0].exists():
        made.append(out / f"{where.name}-samples.png")
        contact_sheet(made[-1], samples)
    shares = {label: where.histogram([row["judged"] for row in group]) for label, group in good.items()}
    drawn = {label: pair for label, pair in shares.items() if pair is not None}
    if drawn:
        made.append(out / f"{where.name}-histogram.png")
        chart.histograms(made[-1], drawn)
    return made


def _sample(out: Path, row: dict[str, Any]) -> tuple[Path, bool]:
    """A sample's picture, and whether to mark it as a blend."""
    path = saved_picture(out, Task(row["world"], row["method"], row["seed"]))
    return path, row["judged"].get("blend", False)


def ranges(seeds: list[int]) -> str:
    """Seeds as on the command line: 0-63 if they are consecutive, else 0,2,5."""
    if len(seeds) > 1 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join(map(str, seeds))
