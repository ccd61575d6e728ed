"""Reads compare.json, and writes its two tables as CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from ....errors import UserError
from ....output import whole
from .check import Wrong, check

FILE = "compare.json"
REMEDY = "; run `pullback compare` again, or mend the file"
# what a spreadsheet takes for a formula, and what `spreadsheet_text` makes of it
FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


def read(folder: Path) -> dict[str, Any]:
    """Reads and checks the comparison in folder/compare.json; `check` completes it.

    Raises:
        UserError: The file is missing, no JSON, or not of the format.
    """
    file = folder / FILE
    if not file.is_file():
        raise UserError(f"{folder} has no {FILE}: name the folder that `pullback compare` wrote to (its --out)")
    try:
        data = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as e:
        raise UserError(f"{file} is not JSON ({e}){REMEDY}") from None
    try:
        check(data, folder)
    except Wrong as e:
        raise UserError(f"{file}: {e}{REMEDY}") from None
    return data


def write_tables(data: dict[str, Any], folder: Path) -> None:
    """Writes folder/runs.csv, with a line for each run, and folder/summary.csv, for each method and measure."""
    names = [measure["name"] for measure in data["measures"]]
    lines = [["method", "prompt", "seed", "status", "reason", *names]]
    for run in data["runs"]:
        texts = [run[key] for key in ("method", "prompt", "seed", "status", "reason")]
        lines.append([*texts, *(run["measures"].get(name) for name in names)])
    _write_csv(folder / "runs.csv", lines)
    measures = {measure["name"]: measure for measure in data["measures"]}
    lines = [["method", "measure", "group", "unit", "better", "mean", "low", "high", "count"]]
    for row in data["summary"]:
        about = [measures[row["measure"]][key] for key in ("group", "unit", "better")]
        lines.append([row["method"], row["measure"], *about, *(row[key] for key in ("mean", "low", "high", "count"))])
    _write_csv(folder / "summary.csv", lines)


def spreadsheet_text(value: Any) -> Any:
    """Puts a ' before a text that a spreadsheet would run as a formula, even one that has such a ' already."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def _write_csv(file: Path, lines: Iterable[list[Any]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([spreadsheet_text(value) for value in line] for line in lines)
    whole.write(file, text.getvalue())


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no measured value: leave it out")
