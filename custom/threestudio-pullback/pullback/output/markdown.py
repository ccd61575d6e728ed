"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def table(header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A table of the cells' texts, without padding. A header cell may hold several columns, with " | " between them."""
    first, *others = (f"| {' | '.join(map(str, row))} |\n" for row in [header, *rows])
    return "".join([first, "|---" * (first.count("|") - 1) + "|\n", *others])


def measure_table(lines: dict[str, dict[str, Any]], head: str = "method") -> str:
    """One row for each label of `lines`, one column for each measure; a missing value leaves an empty cell."""
    columns = list(dict.fromkeys(column for line in lines.values() for column in line))
    rows = ([label, *(_three_digits(line.get(column, "")) for column in columns)] for label, line in lines.items())
    return table([head, *columns], rows)


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Prints a table that is easy to read in a terminal: all cells of a column have one width."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * w for w in widths], *rows]:
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |")


def _three_digits(value: Any) -> str:
    """Three digits of a float, or more where its whole part has more."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
