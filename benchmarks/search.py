"""The best learning rate and range of noise levels of SDS, SJC and SDI in a world of scenes, by a search.

    python benchmarks/search.py --world shapes --out outputs/search/shapes
    python benchmarks/search.py --world two-tone --out outputs/search/two-tone

Three rounds for each method: every learning rate with every range, STEPS steps of 8 views, the first FIRST seeds;
the KEPT best of them with all seeds; the very best of these again with FACTOR times the steps. The seeds are none of
those that are judged elsewhere. Best: fewest blends (a run that ends in infinite numbers counts as one), among these
most distinct scenes, among these the least mean rms. The rows are kept in OUT/worlds.json, and a run goes on from
there; the table is printed, best first among those of as many seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from compare import print_table
from pullback.evaluate import known
from pullback.evaluate.known import methods, report, runner

NAMES = ("sds", "sjc", "sdi inversion_steps=3")
RATES = (0.05, 0.1, 0.2, 0.4)
RANGES = ((0.05, 40.0), (0.05, 12.0), (0.05, 4.0), (1.0, 12.0), (4.0, 12.0))
STEPS, FACTOR = 75, 4
FIRST, KEPT = 2, 4


def judge(results: runner.Results, world: str, label: str, seeds: list[int]) -> tuple[tuple[float, ...], list[str]]:
    """What the criterion sorts by, least first, and the line of the table."""
    rows = [row for row in results.of(world, label) if row["seed"] in seeds]
    good = [row for row in rows if "failed" not in row]
    found = report.measures(known.world(world), rows)
    blends = found.get("blends", 0) + len(rows) - len(good)
    rms = sum(row["judged"]["rms"] for row in good) / len(good) if good else float("inf")
    clean = len({row["judged"]["scene"] for row in good if not row["judged"]["blend"]})
    line = [label, f"{blends} of {len(rows)}", str(found.get("distinct", 0)), str(clean), f"{rms:.3f}"]
    line += [f"{found.get('evaluations', 0):.0f}", f"{found.get('seconds', 0):.1f}"]
    return (blends, -found.get("distinct", 0), rms), line


def search(world: str, seeds: list[int], out: Path, workers: int) -> list[list[str]]:
    """The table's lines, method by method, best first."""

    def ranked(texts: list[str], chosen: list[int]) -> list[tuple[tuple[float, ...], list[str], str]]:
        labels = [methods.parse(text).label for text in texts]
        results = runner.run([world], [methods.parse(label) for label in labels], chosen, out, workers)
        return sorted((*judge(results, world, label, chosen), label) for label in labels)

    lines = []
    for name in NAMES:
        grid = [
            f"{name} steps={STEPS} lr={rate} sigma_min={low} sigma_max={high}" for rate in RATES for low, high in RANGES
        ]
        first = ranked(grid, seeds[:FIRST])
        kept = ranked([label for _, _, label in first[:KEPT]], seeds)
        longer = ranked([kept[0][2].replace(f"steps={STEPS}", f"steps={FACTOR * STEPS}")], seeds)
        lines += [line for _, line, _ in [*sorted([*kept, *longer]), *first[KEPT:]]]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="shapes", help="a world of scenes (default shapes)")
    parser.add_argument("--seeds", type=int, default=6, help="so many seeds from 1000 on (default 6)")
    parser.add_argument("--out", type=Path, default=Path("outputs/search"), help="folder of the rows and the table")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (default 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = list(range(1000, 1000 + arguments.seeds))
    lines = search(arguments.world, seeds, arguments.out, arguments.workers)
    header = ["setting", "blends", "distinct", "distinct, no blends", "rms mean", "evaluations", "seconds"]
    print_table(header, lines)


if __name__ == "__main__":
    main()
