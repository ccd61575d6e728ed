"""`pullback evaluate images`: SIREN images against the shipped model's own samples from the same noise."""

from __future__ import annotations

from pathlib import Path

from .. import options
from . import campaign, report
from .samples import Settings


def evaluate(
    path: str, settings: Settings, seed: int, samples: int, scales: list[float], few: int, curve: list[float],
    ablated: int, out: Path, workers: int,
) -> str:  # fmt: skip
    """Runs what `out` lacks and writes the report, OUT/images.md; returns its text."""
    results = campaign.run(path, settings, seed, samples, scales, few, curve, ablated, out, workers)
    return report.write(results, samples, scales, few, curve, ablated)


def parse_settings(words: list[str]) -> Settings:
    """Settings from key=value; raises UserError for an unknown key or a value of another kind."""
    return Settings(**options.read(words, options.of(Settings), "settings"))
