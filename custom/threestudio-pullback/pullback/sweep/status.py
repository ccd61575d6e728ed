"""How far a sweep is, and the table of its results."""

from __future__ import annotations

import csv
import io
import statistics
from collections import Counter
from typing import Any

from ..output.words import counted
from .claims import HELD
from .folder import Folder
from .plan import Unit

COLUMNS = ("steps", "nfe", "residual", "consistency", "parameters", "reason")
"""What the table has of a result: what every making of the run gives alike."""
SHOWN = 20
"""How many units of a kind are named."""
LONGEST = 80
"""Characters of a prompt that a line shows."""


def table(folder: Folder) -> None:
    """Writes OUT/table.csv: a row for each unit that has ended, in the order of variant, prompt and seed."""
    rows = folder.rows(folder.units())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", "prompt", "seed", "status", *COLUMNS])
    for unit, row in sorted(rows, key=lambda pair: (pair[0].variant, pair[0].prompt, pair[0].seed)):
        values = [row.get(name, "") for name in COLUMNS]
        writer.writerow([unit.variant, unit.prompt, unit.seed, row["status"], *values])
    folder.save(folder.out / "table.csv", text.getvalue())


def sentence(folder: Folder, unit: Unit, row: dict[str, Any]) -> str:
    """A unit's result in a few words."""
    shown = [f"{row['seconds']:.0f} s"] if "seconds" in row else []
    if "consistency" in row:
        shown.insert(0, f"self-consistency {row['consistency']:.3f}")
    verdict = f"failed: {row['reason']}" if row["status"] == "failed" else ", ".join(["done", *shown])
    return f"{describe(folder, unit)}: {verdict}"


def describe(folder: Folder, unit: Unit) -> str:
    """A unit by its variant's label, prompt and seed."""
    return f"{folder.variants[unit.variant].label} · {shortened(unit.prompt)} · seed {unit.seed}"


def shortened(prompt: str) -> str:
    """A prompt for a line of progress: of a long one, the beginning."""
    return prompt if len(prompt) <= LONGEST else prompt[: LONGEST - 2].rstrip() + " …"


def status(folder: Folder) -> str:
    """Done, running and failed units, with reasons, and the time left: the text of `pullback sweep status`."""
    units = folder.units()
    rows = folder.rows(units)
    failed = [(unit, row) for unit, row in rows if row["status"] == "failed"]
    ended = {unit.name for unit, _ in rows}
    claims = folder.claims
    running, tried = [], 0
    numbers = claims.numbers()
    for unit in units:
        if unit.name in ended or unit.name not in numbers:
            continue
        claim = claims.read(unit.name, numbers[unit.name])
        if claim["state"] == HELD and claims.alive(unit.name, numbers[unit.name], claim):
            running.append((unit, claim))
        else:
            tried += 1
    waiting = len(units) - len(rows) - len(running)
    lines = [
        f"{counted(len(units), 'run')}: {len(rows) - len(failed)} done, {len(running)} running, "
        f"{len(failed)} failed, {waiting} to do" + (f" ({tried} of them begun)" if tried else "")
    ]
    lines += _listed(
        "running", [f"{describe(folder, u)}, on {c.get('host', 'an unknown machine')}" for u, c in running]
    )
    lines += _listed("failed", [f"{describe(folder, unit)}: {row['reason']}" for unit, row in failed])
    seconds = [row["seconds"] for _, row in rows if row["status"] == "done" and "seconds" in row]
    if seconds and running:
        left = statistics.median(seconds) * (waiting + len(running) / 2) / len(running)
        lines.append(f"about {left / 60:.0f} min left with {len(running)} workers")
    versions = Counter(row.get("version") for _, row in rows)
    if len(versions) > 1:
        found = "; ".join(f"{count} by {name}" for name, count in versions.most_common())
        lines.append(f"the runs were made by several versions: {found}")
    if failed:
        lines.append("--retry-failed makes the failed ones again")
    return "\n".join(lines)


def _listed(what: str, lines: list[str]) -> list[str]:
    more = [f"  … and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return [f"{what}:", *(f"  {line}" for line in lines[:SHOWN]), *more] if lines else []
