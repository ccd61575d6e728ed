"""`pullback evaluate images`: SIREN images against the shipped model's own samples from the same noise."""

from __future__ import annotations

import math
from pathlib import Path

from ...errors import UserError
from .. import options
from ..damaged import telling
from . import campaign, report
from .campaign import Extent
from .samples import Settings


def evaluate(path: str, settings: Settings, seed: int, extent: Extent, out: Path, workers: int) -> str:
    """Makes the samples that `out` lacks and writes the report, OUT/images.md; returns its text."""
    results = campaign.run(path, settings, seed, extent, out, workers)
    with telling(results):
        return report.write(results, extent, path)


def parse_settings(words: list[str]) -> Settings:
    """Settings from key=value; raises UserError for an unknown key, or a value that no sample can be made with."""
    read = options.read(words, options.of(Settings), "settings")
    for key, value in read.items():
        if not 0 < value < math.inf and (key, value) != ("rounds", 0):
            raise UserError(f"settings: {key} must be a finite number above 0, not {value}")
    return Settings(**read)
