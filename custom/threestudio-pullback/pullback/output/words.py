"""Words of the sentences that commands print."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """A number and what it counts, such as "1 run" and "2 runs"."""
    return f"{number} {thing}{'s' * (number != 1)}"
