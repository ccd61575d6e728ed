r"""Figures of the results that `pullback evaluate worlds` saves.

    python experiments/figures.py histogram --world shapes --out docs/images/histogram.png \
        --row SDS docs/results/worlds-baselines "sds lr=0.1" --row ours docs/results/worlds "pullback"

histogram: how many samples are of each scene of the world, a row of bars for each --row of TITLE FOLDER METHOD, all on
one scale. Below: the scenes. Dark lines: a perfect sampler's shares. Red: blends, which count for the nearest scene.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from pullback.errors import UserError
from pullback.evaluate import exact_worlds
from pullback.evaluate.exact_worlds import methods
from pullback.evaluate.exact_worlds.sceneworld import SceneWorld
from pullback.output import chart


def rows_of(folder: Path, world: str, method: str) -> list[dict[str, Any]]:
    """The verdicts on a method in a folder's worlds.json, without failed runs; UserError if there is none."""
    file, label = folder / "worlds.json", methods.parse(method).label
    if not file.exists():
        raise UserError(f"--row: {file} does not exist; `pullback evaluate worlds --out {folder}` makes it")
    rows = [row for row in json.loads(file.read_text())["rows"] if row["world"] == world and "judged" in row]
    verdicts = [row["judged"] for row in rows if row["method"] == label]
    if not verdicts:
        labels = ", ".join(sorted({repr(row["method"]) for row in rows})) or "none"
        raise UserError(f"--row: {file} has no {label!r} in {world}; of that world it has {labels}")
    return verdicts


def histogram(world: str, rows: list[tuple[str, Path, str]], out: Path) -> None:
    """Draws the shares of every scene.

    Args:
        world: A world of scenes.
        rows: Title, folder and method of each row of bars.
        out: The PNG file.

    Raises:
        UserError: The world has no scenes, or a folder has no results of the method.
    """
    where = exact_worlds.world(world)
    if not isinstance(where, SceneWorld):
        raise UserError(
            f"--world {world}: the histogram is of worlds of scenes: {', '.join(exact_worlds.GROUPS['scenes'])}."
        )
    shares, blended = {}, {}
    for title, folder, method in rows:
        verdicts = rows_of(folder, world, method)
        mixed = [row for row in verdicts if row["blend"]]
        title = f"{title}: {len(verdicts)} samples, {len(mixed)} blends"
        shares[title] = where.histogram(verdicts)
        which = torch.tensor([row["scene"] for row in mixed], dtype=torch.long)
        blended[title] = torch.bincount(which, minlength=len(where.labels)) / len(verdicts)
    out.parent.mkdir(parents=True, exist_ok=True)
    chart.histograms(out, shares, icons=where.images(where.held_out[:1])[:, 0], blended=blended)


def main() -> None:
    """Draws the figure of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=["histogram"])
    parser.add_argument("--world", default="shapes", help="a world of scenes (default shapes)")
    parser.add_argument("--out", type=Path, required=True, help="the picture")
    parser.add_argument("--row", nargs=3, action="append", required=True, metavar=("TITLE", "FOLDER", "METHOD"))
    arguments = parser.parse_args()
    try:
        rows = [(title, Path(folder), method) for title, folder, method in arguments.row]
        histogram(arguments.world, rows, arguments.out)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
