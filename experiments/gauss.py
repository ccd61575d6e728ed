"""Constraints in linear-Gaussian worlds: covariance and mean error of θ against denoiser calls, as Markdown tables.

    python experiments/gauss.py                  # all ways in the tall case, then the best in other cases
    python experiments/gauss.py --figure FILE    # the tall case as a chart, FILE a PNG
    python experiments/gauss.py --mixtures       # two modes, one off the range of f: the share of the other, sampled

The errors of the first two are exact: the law of θ is propagated through every visit (see
pullback/evaluate/exact_worlds/propagate.py), so a design is judged in a second and without chance. The worlds of
`pullback evaluate worlds --world gauss` are the first of each case; there samples are drawn, which checks the laws.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pullback
import torch
from corrector import Corrector
from pullback.constraints import Constraint
from pullback.evaluate.exact_worlds.gauss import GaussWorld, LinearBatch
from pullback.evaluate.exact_worlds.propagate import propagate, schedule
from pullback.output.chart import Panel, lines
from pullback.output.markdown import print_table
from torch import Tensor

TALL = "tall (d = 16, n = 6)"
CASES = {
    TALL: {"d": 16, "n": 6},
    "square (d = n = 8)": {"d": 8, "n": 8},
    "stiff (d = 16, n = 6)": {"d": 16, "n": 6, "spread": 1000.0, "condition": 30.0},
    "large (d = 64, n = 16)": {"d": 64, "n": 16},
}
SEEDS, SAMPLES = 8, 4000
Levels = Callable[[int], Tensor]

karras: Levels = partial(pullback.karras_sigmas, sigma_min=0.01, sigma_max=40.0)
geometric: Levels = partial(pullback.settling_sigmas, sigma_min=0.01, sigma_max=10.0, power=1.0)
settling: Levels = partial(pullback.settling_sigmas, sigma_min=0.01, sigma_max=10.0)
settling3: Levels = partial(pullback.settling_sigmas, sigma_min=0.01, sigma_max=10.0, power=3.0)


@dataclass(frozen=True)
class Way:
    """A constraint and its noise levels."""

    name: str
    constraint: Constraint
    sigmas: Tensor

    @property
    def visits(self) -> list[tuple[float, float, int]]:
        """The σ, σ' and cycle of every visit; each is a denoiser call."""
        return schedule(self.constraint, self.sigmas)

    def errors(self, case: str, seeds: int = SEEDS) -> Tensor:
        """Covariance and mean error [seeds,2], exactly."""
        worlds = [GaussWorld("", samples=1, seed=seed, **CASES[case]) for seed in range(seeds)]
        return torch.tensor([list(w.errors(*propagate(w, self.constraint, self.visits)).values()) for w in worlds])


PLAIN, PROJECTION, LANGEVIN = Constraint(), pullback.Projection(), pullback.Langevin()


def candidates() -> list[Way]:
    """All ways of the table of the tall case."""

    def add(name: str, constraint: Constraint, levels: Levels, *counts: int) -> None:
        ways.extend(Way(name, constraint, levels(count)) for count in counts)

    ways: list[Way] = []
    add("plain flow", PLAIN, karras, 100, 400, 1600)
    for cycles in (2, 4, 8, 16, 64):
        add(f"Repaint({cycles})", pullback.Repaint(cycles), karras, 100)
    add("Repaint(16)", pullback.Repaint(16), karras, 25, 400)
    add("Repaint(64)", pullback.Repaint(64), karras, 400)
    add("Repaint(16), settling levels", pullback.Repaint(16), settling, 25, 100)
    add("Projection(0)", PROJECTION, karras, 100, 400, 1600)
    add("Projection(0), settling levels", PROJECTION, settling, 100, 400)
    for fresh in (0.2, 0.5, 1.0):
        add(f"Projection({fresh:g})", pullback.Projection(fresh), karras, 400, 1600)
    add("in-range noise, no correction", Corrector(0), karras, 400)
    for size in (0.5, 1.0):
        for steps in (1, 4, 16):
            add(f"Euler–Maruyama {size:g} σ² × {steps}", Corrector(steps, size), karras, 200)
    add("**Langevin()**", LANGEVIN, settling, 50, 100, 200, 400, 800)
    add("Langevin(0), overdamped", pullback.Langevin(0.0), settling, 200, 1600)
    for momentum, step in ((0.5, 1.5), (0.8, 1.5), (0.95, 1.5), (0.9, 0.5), (0.9, 1.0), (0.9, 1.8)):
        add(f"Langevin({momentum:g}, {step:g})", pullback.Langevin(momentum, step), settling, 200)
    for name, levels in (("Karras", karras), ("geometric", geometric), ("settling³", settling3)):
        add(f"Langevin(), {name} levels", LANGEVIN, levels, 50, 100, 400)
    return ways


def best_ways() -> list[Way]:
    """The ways of the tables of other cases."""
    ways = [Way("plain flow", PLAIN, karras(400)), Way("Projection(0)", PROJECTION, karras(400))]
    ways += [Way(f"Repaint({cycles})", pullback.Repaint(cycles), karras(100)) for cycles in (4, 16)]
    return ways + [Way("Langevin()", LANGEVIN, settling(count)) for count in (50, 100, 200, 400)]


def print_errors() -> None:
    """Prints the tables of exact errors."""
    header = ["method", "levels", "calls", "covariance error: mean (worst)", "mean error: mean (worst)"]

    def row(way: Way, case: str) -> list[str]:
        errors = way.errors(case)
        cells = [f"{e.mean():.3f} ({e.max():.3f})" for e in errors.T]
        return [way.name, str(len(way.sigmas) - 1), str(len(way.visits)), *cells]

    print(f"Tall case, {SEEDS} random worlds:\n")
    print_table(header, [row(way, TALL) for way in candidates()])
    print(f"\nOther cases, {SEEDS} random worlds each:\n")
    others = [name for name in CASES if name != TALL]
    print_table(["case", *header], [[name, *row(way, name)] for name in others for way in best_ways()])
    print("\nThe worlds of `pullback evaluate worlds --world gauss`, covariance and mean error:\n")
    print_table(["method", "calls", *CASES], [firsts(way) for way in best_ways()])


def firsts(way: Way) -> list[str]:
    """Name, calls and the errors in the first world of every case."""
    return [way.name, str(len(way.visits)), *["{:.3f}, {:.3f}".format(*way.errors(case, 1)[0]) for case in CASES]]


def figure(file: Path) -> None:
    """Draws errors over calls; each constraint has the cycles and levels that give it the best covariance."""
    kinds: dict[str, list[Constraint]] = {
        "plain flow": [PLAIN], "Repaint": [pullback.Repaint(cycles) for cycles in (2, 4, 8, 16, 32)],
        "Projection": [PROJECTION], "Langevin": [LANGEVIN],
    }  # fmt: skip
    counts = [25, 50, 100, 200, 400, 800, 1600]

    def best(constraints: list[Constraint], calls: int) -> list[float]:
        counted = [(c, calls // c.cycles) for c in constraints if calls >= 6 * c.cycles]
        ways = [Way("", c, levels(count)) for c, count in counted for levels in (karras, settling)]
        return min(way.errors(TALL).mean(0).tolist() for way in ways)

    errors = {name: [best(constraints, calls) for calls in counts] for name, constraints in kinds.items()}
    panels = []
    for part, what in enumerate(("covariance", "mean")):
        curves = {name: [row[part] for row in rows] for name, rows in errors.items()}
        rows = [[name, *[f"{value:.4f}" for value in values]] for name, values in curves.items()]
        print_table([f"error of the {what}, by calls", *map(str, counts)], rows)
        print()
        points = {name: [*zip(counts, values, strict=True)] for name, values in curves.items()}
        panels.append(Panel(f"Error of the {what}", "denoiser calls per sample", points))
    lines(file, panels, log=True)


def mixtures() -> None:
    """Prints shares of two modes of one width in the plane, where f reaches the line y = 0, but not the second mode."""
    ways = [
        Way("plain flow", PLAIN, karras(100)),
        Way("Repaint(16)", pullback.Repaint(16), karras(25)),
        Way("Projection(0)", PROJECTION, karras(100)),
        *[Way("Langevin()", LANGEVIN, settling(count)) for count in (100, 400, 1600)],
    ]
    columns = [["exact", *[way.name for way in ways]], ["", *[str(len(way.visits)) for way in ways]]]
    header, solver = ["method", "calls"], pullback.GaussNewton(iterations=1, cg_iterations=1)
    for width, miss in ((0.5, 1.0), (0.3, 0.5), (0.1, 0.3)):
        means = torch.tensor([[-1.0, 0.0], [1.0, miss]], dtype=torch.float64)[:, None, None]
        prior = pullback.priors.MixturePrior(means, width)
        shares = [1 / (1 + math.exp(-(miss**2) / (2 * width**2)))]
        for way in ways:
            batch = LinearBatch(torch.tensor([[1.0], [0.0]], dtype=torch.float64), SAMPLES)
            pullback.sample(
                batch, torch.arange(SAMPLES), prior.denoise, way.sigmas, noise="independent", solver=solver,
                constraint=way.constraint, generator=torch.Generator().manual_seed(0),
            )  # fmt: skip
            shares.append(float((batch.theta < 0).double().mean()))
        columns.append([f"{share:.3f}" for share in shares])
        header.append(f"width {width:g}, miss {miss:g}")
    print_table(header, [list(row) for row in zip(*columns, strict=True)])


def main() -> None:
    """Prints the tables, or draws the figure, of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--figure", type=Path, metavar="FILE", help="draw errors against calls in the tall case")
    kind.add_argument("--mixtures", action="store_true", help="the share of the likelier of two modes on a line")
    arguments = parser.parse_args()
    if arguments.figure:
        figure(arguments.figure)
    else:
        (mixtures if arguments.mixtures else print_errors)()


if __name__ == "__main__":
    main()
