"""The best learning rate and range of noise levels of SDS, SJC and SDI in a world of scenes, by a search.

    python benchmarks/search.py --world shapes --out outputs/search/shapes
    python benchmarks/search.py --world two-tone --out outputs/search/two-tone

Every learning rate with every range, STEPS steps of 8 views; then the LONGER best of each method again with four
times the steps. The seeds are none of those that are judged elsewhere. Best: fewest blends (a run that ends in
infinite numbers counts as one), among these most distinct scenes, among these the least mean rms. The rows are kept
in OUT/worlds.json, and a run goes on from there; the table is printed, best first.
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
STEPS, FACTOR, LONGER = 75, 4, 2


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

    def label(name: str, rate: float, low: float, high: float) -> str:
        return f"{name} steps={STEPS} lr={rate} sigma_min={low} sigma_max={high}"

    def run(texts: list[str]) -> runner.Results:
        return runner.run([world], [methods.parse(text) for text in texts], seeds, out, workers)

    lines = []
    for name in NAMES:
        grid = [methods.parse(label(name, rate, *limits)).label for rate in RATES for limits in RANGES]
        results = run(grid)
        best = sorted(grid, key=lambda text: judge(results, world, text, seeds)[0])[:LONGER]
        longer = [text.replace(f"steps={STEPS}", f"steps={FACTOR * STEPS}") for text in best]
        results = run(longer)
        lines += [line for _, line in sorted(judge(results, world, text, seeds) for text in [*grid, *longer])]
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
