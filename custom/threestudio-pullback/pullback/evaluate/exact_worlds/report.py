"""The tables and pictures of a folder of results."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ...output import chart
from ...output.contact_sheet import contact_sheet
from ..campaign import Results
from .methods import Variant
from .protocol import World
from .runner import Task, picture_of
from .worlds import WORLDS, world


def measures(where: World, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One method's line: the world's measures, then the cost, then what the method adds, numbers on average."""
    good = [row for row in rows if "failed" not in row]
    found: dict[str, Any] = {"failed": len(rows) - len(good)} if len(good) < len(rows) else {}
    if not good:
        return found
    found |= where.measures([row["judged"] for row in good])
    nfe = [row["nfe"] for row in good]
    found["evaluations"] = sum(nfe) / len(nfe)
    if max(nfe) > min(nfe):
        found["evaluations max"] = max(nfe)
    found["seconds"] = sum(row["seconds"] for row in good) / len(good)
    for key in good[0]["extra"]:
        values = [row["extra"][key] for row in good if key in row["extra"]]
        if all(isinstance(value, (int, float)) for value in values):
            found[key] = sum(values) / len(values)
    return found


def table(lines: dict[str, dict[str, Any]]) -> str:
    """Markdown: one row a method, one column a measure."""
    columns = list(dict.fromkeys(column for line in lines.values() for column in line))
    text = [f"| method | {' | '.join(columns)} |", f"|---{'|---' * len(columns)}|"]
    for label, line in lines.items():
        text.append(f"| {label} | {' | '.join(_cell(line.get(column, '')) for column in columns)} |")
    return "\n".join(text) + "\n"


def _cell(value: Any) -> str:
    """Three figures, and never fewer than the whole number has."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(results: Results, names: list[str], chosen: list[Variant], seeds: list[int]) -> str:
    """OUT/worlds.md with a table a world, and its pictures; returns the text."""
    out, labels = results.out, [method.label for method in chosen]
    command = ["pullback", "evaluate", "worlds", "--world", ",".join(names)]
    for label in labels:
        command += ["--method", label]
    command += ["--seeds", ranges(seeds), "--out", str(out)]
    text = f"# Known-answer worlds\n\n`{shlex.join(command)}`\n"
    for name in names:
        where = world(name)
        rows = {label: [row for row in results.of(name, label) if row["seed"] in seeds] for label in labels}
        commits = sorted({row["commit"] for group in rows.values() for row in group})
        text += f"\n## {name}\n\n{WORLDS[name].__doc__}\nCommit {', '.join(commits)}.\n\n"
        text += table({label: measures(where, group) for label, group in rows.items()})
        text += "".join(f"\n![{made.stem}]({made.relative_to(out)})\n" for made in _pictures(where, rows, out))
    (out / "worlds.md").write_text(text)
    return text


def _pictures(where: World, rows: dict[str, list[dict[str, Any]]], out: Path) -> list[Path]:
    """Draws the world's contact sheet and histogram where it has them."""
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
    path = picture_of(out, Task(row["world"], row["method"], row["seed"]))
    return path, row["judged"].get("blend", False)


def ranges(seeds: list[int]) -> str:
    """0-63 for consecutive seeds, else 0,2,5."""
    if len(seeds) > 1 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join(map(str, seeds))
