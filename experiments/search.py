"""The best learning rate and range of noise levels of SDS, SJC, VSD and SDI in a known-answer world, by a search.

    python experiments/search.py --world shapes --out outputs/search/shapes
    python experiments/search.py --world two-tone --out outputs/search/two-tone
    python experiments/search.py --world joint-two-tone --out outputs/search/joint-two-tone    # it sees groups of views
    python experiments/search.py --world rings --seeds 1 --out outputs/search/rings      # 2000 points a seed
    python experiments/search.py --world mixture --seeds 1 --out outputs/search/mixture

Three rounds for each method: every learning rate with every range, its kind of world's steps, the first FIRST seeds;
the KEPT best of them with all seeds; the very best of these again with FACTOR times the steps. The seeds are none of
those that are judged elsewhere. Best in a world of scenes: fewest blends (a run that ends in infinite numbers counts
as one), among these most distinct scenes, among these the least mean rms. Best in the plane: the least sum of the share
outside and the total variation of the components. The rows are kept in OUT/worlds.json, and a run goes on from there;
the table is printed, best first among those of as many seeds.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import torch
from pullback.evaluate import exact_worlds
from pullback.evaluate.campaign import Results
from pullback.evaluate.exact_worlds import methods, report, runner
from pullback.output.markdown import print_table

NAMES = ("sds", "sjc", "vsd", "sdi inversion_steps=3")
FACTOR = 4
FIRST, KEPT = 2, 4


class Grid(NamedTuple):
    """The settings for one kind of world; ranges are pairs of the least and the greatest σ."""

    steps: int
    rates: tuple[float, ...]
    ranges: tuple[tuple[float, float], ...]


# Scenes part near σ = 5, the plane's modes near 0.5. Inversion begins at sigma_min with renders that are far from any
# scene, and fails where they are many σ away; hence its further ranges, with a higher sigma_min.
SCENES = Grid(75, (0.05, 0.1, 0.2, 0.4), ((0.05, 40.0), (0.05, 12.0), (0.05, 4.0), (1.0, 12.0), (4.0, 12.0)))
PLANE = Grid(100, (0.03, 0.1), ((0.01, 2.0), (0.01, 0.5), (0.1, 0.5)))
INVERTING = {SCENES: ((2.0, 12.0), (2.0, 40.0), (4.0, 40.0)), PLANE: ((0.3, 2.0),)}
HEADERS = {
    SCENES: ["setting", "blends", "distinct", "distinct, no blends", "rms mean", "evaluations", "seconds"],
    PLANE: ["setting", "outside", "modes TV", "components TV", "components covered", "evaluations", "seconds"],
}


def grid_of(world: str) -> Grid:
    """The settings for a world."""
    return PLANE if world in exact_worlds.GROUPS["plane"] else SCENES


def judge(results: Results, world: str, label: str, seeds: list[int]) -> tuple[tuple[float, ...], list[str]]:
    """The sort key of a setting, where less is better, and its line of the table."""
    rows = [row for row in results.of(world, label) if row["seed"] in seeds]
    figures = report.measures(exact_worlds.world(world), rows)
    cost = [f"{figures.get('evaluations', 0):.0f}", f"{figures.get('seconds', 0):.1f}"]
    good = [row for row in rows if "failed" not in row]
    if not good:
        return (math.inf,), [label, "failed", "", "", "", *cost]
    if grid_of(world) is PLANE:
        parts = [figures[key] for key in ("outside", "modes TV", "components TV")]
        line = [label, *(f"{part:.3f}" for part in parts), figures["components covered"]]
        return (parts[0] + parts[2],), line + cost
    blends = figures["blends"] + len(rows) - len(good)
    rms = sum(row["judged"]["rms"] for row in good) / len(good)
    clean = len({row["judged"]["scene"] for row in good if not row["judged"]["blend"]})
    line = [label, f"{blends} of {len(rows)}", str(figures["distinct"]), str(clean), f"{rms:.3f}"]
    return (blends, -figures["distinct"], rms), line + cost


def search(world: str, seeds: list[int], out: Path, workers: int) -> list[list[str]]:
    """The table's lines, method by method, best first."""

    def ranked(texts: list[str], some_seeds: list[int]) -> list[tuple[tuple[float, ...], list[str], str]]:
        labels = [methods.parse(text).label for text in texts]
        results = runner.run([world], [methods.parse(label) for label in labels], some_seeds, out, workers)
        return sorted((*judge(results, world, label, some_seeds), label) for label in labels)

    lines = []
    tried = grid_of(world)
    for name in NAMES:
        grid = [
            f"{name} steps={tried.steps} lr={rate} sigma_min={low} sigma_max={high}"
            for rate in tried.rates
            for low, high in (*tried.ranges, *(INVERTING[tried] if name.startswith("sdi") else ()))
        ]
        first = ranked(grid, seeds[:FIRST])
        kept = ranked([label for _, _, label in first[:KEPT]], seeds)
        longer = ranked([kept[0][2].replace(f"steps={tried.steps} ", f"steps={FACTOR * tried.steps} ")], seeds)
        lines += [line for _, line, _ in [*sorted([*kept, *longer]), *first[KEPT:]]]
    return lines


def main() -> None:
    """Searches, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="shapes", help="a world of scenes or of the plane (default shapes)")
    parser.add_argument("--seeds", type=int, default=6, help="so many seeds from 1000 on (default 6)")
    parser.add_argument("--out", type=Path, default=Path("outputs/search"), help="folder of the rows and the table")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (default 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = list(range(1000, 1000 + arguments.seeds))
    lines = search(arguments.world, seeds, arguments.out, arguments.workers)
    print_table(HEADERS[grid_of(arguments.world)], lines)


if __name__ == "__main__":
    main()
