"""`pullback evaluate diversity`: does it sample with the shipped model, where a prompt leaves something open?"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from ..campaign import model_option
from ..damaged import telling
from ..studio import field as studio
from . import report
from .campaign import FREE, GROUPS, TWO_COLOURED, run


def evaluate(path: str, group: str, labels: list[str], seeds: list[int], pictures: int, out: Path, workers: int) -> str:
    """Makes the NeRFs and pictures that `out` lacks, and writes the report.

    Args:
        path: The model's folder.
        group: Prompts or names of GROUPS, with commas between them.
        labels: Methods, as for `studio.field.parse`.
        seeds: A NeRF is made with each, for every prompt and method.
        pictures: How many pictures the model makes of a partial prompt.
        out: The folder.
        workers: How many NeRFs are made at a time.

    Returns:
        The text of the report, OUT/diversity.md.

    Raises:
        UserError: A prompt or method is unknown, or `out` has results of another model.
    """
    methods = [studio.parse(label).label for label in labels]
    prompts = list(dict.fromkeys(prompt for name in group.split(",") for prompt in GROUPS.get(name, [name])))
    for prompt in prompts:
        if prompt not in FREE and prompt not in TWO_COLOURED:
            raise UserError(f"--prompts {prompt!r} is not known; use {', '.join([*GROUPS, *FREE, *TWO_COLOURED])}")
    results = run(path, prompts, methods, seeds, pictures, out, workers)
    with telling(results):
        return report.write(results, prompts, methods, seeds, ["--pictures", str(pictures), *model_option(path)])
