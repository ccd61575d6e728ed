"""docs/results/reliability.md from the rows."""

from __future__ import annotations

from pathlib import Path


def write(file: Path) -> None:
    """Later."""
