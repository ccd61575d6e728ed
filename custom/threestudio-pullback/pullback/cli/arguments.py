"""Types and groups of arguments that several commands share."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

from ..host.arguments import KNOWS as KNOWS

LARGEST_SEED = 2**32 - 1  # NumPy's, and with it Lightning's
MOST_SEEDS = 10**5


def parse_seed(text: str) -> int:
    """Reads a seed, an integer in [0, 2^32).

    Raises:
        argparse.ArgumentTypeError: The text is none.
    """
    if not re.fullmatch(r"\d{1,10}", text) or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"a seed is a number from 0 to {LARGEST_SEED}, not {text[:40]!r}")
    return int(text)


def parse_seeds(text: str) -> list[int]:
    """Reads seeds from a range or a list, such as "0-3" or "0,2,5".

    Raises:
        argparse.ArgumentTypeError: The text is neither.
    """
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    if match and parse_seed(match[2]) - parse_seed(match[1]) >= MOST_SEEDS:
        raise argparse.ArgumentTypeError(f"{text} are more than {MOST_SEEDS} seeds")
    seeds = list(range(int(match[1]), int(match[2]) + 1)) if match else []
    if re.fullmatch(r"\d+(,\d+)*", text):
        seeds = [parse_seed(part) for part in text.split(",")]
    if not seeds:
        raise argparse.ArgumentTypeError(f"seeds are written 0-3 or 0,2,5, not {text!r}")
    return seeds


def parse_scales(text: str) -> list[float]:
    """Reads guidance scales from a list, such as "1,3".

    Raises:
        argparse.ArgumentTypeError: A part of the text is no finite number.
    """
    try:
        scales = [float(part) for part in text.split(",")]
        if not all(map(math.isfinite, scales)):
            raise ValueError
        return scales
    except ValueError:
        raise argparse.ArgumentTypeError(f"guidance scales are written 1,3, not {text!r}") from None


def at_least(least: int) -> Callable[[str], int]:
    """The type of an integer argument with a lower bound."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {text!r}")
        return int(text)

    return parse
