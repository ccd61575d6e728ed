"""`pullback evaluate diversity`: does it sample with the shipped model, where a prompt leaves something open?"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from ..campaign import model_option
from ..studio import field as studio
from . import report
from .campaign import FREE, GROUPS, TWO_COLOURED, run


def evaluate(path: str, group: str, labels: list[str], seeds: list[int], pictures: int, out: Path, workers: int) -> str:
    """Runs what `out` lacks and writes the report, OUT/diversity.md; returns its text.

    group: prompts or names of GROUPS, commas between. labels: methods, as for `parse`. Raises UserError for others.
    """
    methods = [studio.parse(label).label for label in labels]
    prompts = list(dict.fromkeys(prompt for name in group.split(",") for prompt in GROUPS.get(name, [name])))
    for prompt in prompts:
        if prompt not in FREE and prompt not in TWO_COLOURED:
            raise UserError(f"--prompts {prompt!r} is not known; use {', '.join([*GROUPS, *FREE, *TWO_COLOURED])}")
    results = run(path, prompts, methods, seeds, pictures, out, workers)
    return report.write(results, prompts, methods, seeds, ["--pictures", str(pictures), *model_option(path)])
