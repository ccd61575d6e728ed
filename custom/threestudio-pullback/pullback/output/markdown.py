"""Tables in Markdown, aligned so that they can be read in a terminal too."""

from __future__ import annotations


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Prints a table with columns of equal width."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * w for w in widths], *rows]:
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |")
