"""What the command line's parts share: paths, and how seeds and other values are written."""

from __future__ import annotations

import argparse
import re


def parse_seeds(text: str) -> list[int]:
    """ "0-3" or "0,2,5" as a list of integers."""
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    seeds = list(range(int(match[1]), int(match[2]) + 1)) if match else []
    if re.fullmatch(r"\d+(,\d+)*", text):
        seeds = [int(part) for part in text.split(",")]
    if not seeds:
        raise argparse.ArgumentTypeError(f"seeds are written 0-3 or 0,2,5, not {text!r}")
    return seeds


def parse_scales(text: str) -> list[float]:
    """ "1,3" as a list of guidance scales."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"guidance scales are written 1,3, not {text!r}") from None
