"""Constraints in linear-Gaussian worlds: covariance and mean error of θ against denoiser calls, as Markdown tables.

    python benchmarks/gauss.py                  # everything tried in the tall case, then the best in other cases
    python benchmarks/gauss.py --sampled        # the same laws drawn with pullback.sample, 20 000 samples each
    python benchmarks/gauss.py --mixtures       # two modes, one off the range of f: the share of the other

The errors of the first are exact: the law of θ is propagated through every visit (see
pullback/evaluate/known/propagate.py), so a design is judged in a second and without chance. `--sampled` checks that.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pullback
import torch
from compare import print_table
from pullback.constraint import Constraint, Visit
from pullback.evaluate.known.gauss import GaussWorld, LinearBatch
from pullback.evaluate.known.propagate import propagate, schedule
from pullback.noise import refresh
from torch import Tensor

CASES = {
    "tall (d = 16, n = 6)": {"d": 16, "n": 6},
    "square (d = n = 8)": {"d": 8, "n": 8},
    "stiff (d = 16, n = 6)": {"d": 16, "n": 6, "spread": 1000.0, "condition": 30.0},
    "large (d = 64, n = 16)": {"d": 64, "n": 16},
}
TALL, SEEDS = CASES["tall (d = 16, n = 6)"], 8
Levels = Callable[[int], Tensor]

karras: Levels = partial(pullback.karras_sigmas, sigma_min=0.01, sigma_max=40.0)
geometric: Levels = partial(pullback.settling_sigmas, sigma_min=0.01, sigma_max=10.0, power=1.0)
settling: Levels = partial(pullback.settling_sigmas, sigma_min=0.01, sigma_max=10.0)
settling3: Levels = partial(pullback.settling_sigmas, sigma_min=0.01, sigma_max=10.0, power=3.0)


# ---- what was tried and is not in the package


@dataclass(frozen=True)
class InRange(Constraint):
    """RePaint whose noise outside the range is drawn afresh at every visit. cycles = 1: no correction."""

    cycles: int = 1

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        source, last = visit.source, visit.cycle == self.cycles - 1
        if not last:
            source = refresh(source, visit.draw(), visit.sigma, visit.sigma_next)
        new = visit.draw()
        return new + visit.project(source - new, visit.clean[0].numel()), None


@dataclass(frozen=True)
class Corrector(Constraint):
    """In-range noise, and after each step down `steps` Euler–Maruyama steps τ = size σ² of Langevin at the level."""

    steps: int = 4
    size: float = 0.5

    @property
    def cycles(self) -> int:
        return self.steps + 1

    def target(self, visit: Visit) -> Tensor:
        return super().target(visit) if visit.cycle == self.steps else visit.clean

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        source, new = visit.source, visit.draw()
        if visit.cycle < self.steps:
            tau, noisy = self.size * visit.sigma**2, visit.clean + visit.sigma * visit.noise
            moved = tau * (visit.x0 - noisy) / visit.sigma**2 + math.sqrt(2 * tau) * visit.draw()
            source = source + moved / visit.sigma
        return new + visit.project(source - new, visit.clean[0].numel()), None


@dataclass(frozen=True)
class Jumps(Constraint):
    """RePaint that climbs `length` levels at a time and takes each stretch `times` times (Lugmayr et al. 2022)."""

    levels: tuple[float, ...]
    length: int
    times: int

    def visits(self) -> list[tuple[float, float, int]]:
        """(σ, σ', level to climb back to afterwards or −1)."""
        visits, count = [], len(self.levels) - 1
        for first in range(0, count, self.length):
            last = min(first + self.length, count) - 1
            for time in range(self.times):
                for level in range(first, last + 1):
                    climbs = level == last and time < self.times - 1
                    visits.append((self.levels[level], self.levels[level + 1], first if climbs else -1))
        return visits

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        if visit.cycle < 0:
            return visit.source, None
        return refresh(visit.source, visit.draw(), self.levels[visit.cycle], visit.sigma_next), None


@dataclass(frozen=True)
class Turnover(pullback.Langevin):
    """Langevin whose noise outside the range turns over at another rate: w ← turn w + √(1 − turn²) z."""

    turn: float = 0.0

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        source, memory = super().renoise(visit)
        change = self.turn * visit.noise + math.sqrt(1 - self.turn**2) * visit.draw() - source
        return source + change - visit.project(change, self.iterations), memory


@dataclass(frozen=True)
class Rounds(pullback.Langevin):
    """Langevin that stays at a level for all visits but the last."""

    cycles: int = 10  # pyright: ignore

    def target(self, visit: Visit) -> Tensor:
        return super().target(visit) if visit.cycle == self.cycles - 1 else visit.clean

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        stays = visit.cycle < self.cycles - 1
        return super().renoise(replace(visit, sigma_next=visit.sigma) if stays else visit)


# ---- the tables


@dataclass(frozen=True)
class Way:
    """A constraint on a number of levels; calls of the denoiser for each sample."""

    name: str
    constraint: Constraint
    sigmas: Tensor

    @property
    def visits(self) -> list[tuple[float, float, int]]:
        return (
            self.constraint.visits() if isinstance(self.constraint, Jumps) else schedule(self.constraint, self.sigmas)
        )

    def errors(self, case: dict[str, float]) -> Tensor:
        """Covariance and mean error [SEEDS,2], exactly."""
        worlds = [GaussWorld("", samples=1, seed=seed, **case) for seed in range(SEEDS)]
        visits = self.visits
        return torch.tensor([list(w.errors(*propagate(w, self.constraint, visits)).values()) for w in worlds])


def tried() -> list[Way]:
    ways: list[Way] = []

    def add(name: str, constraint: Constraint, levels: Levels, count: int) -> None:
        ways.append(Way(name, constraint, levels(count)))

    add("plain flow", Constraint(), karras, 400)
    for fresh in (0.0, 0.2, 0.5, 1.0):
        add(f"Projection({fresh})", pullback.Projection(fresh), karras, 400)
    add("Projection(0.0)", pullback.Projection(0.0), karras, 1600)
    for cycles in (2, 4, 8, 16):
        add(f"Repaint({cycles})", pullback.Repaint(cycles), karras, 100)
    add("Repaint(64)", pullback.Repaint(64), karras, 100)
    add("Repaint(16), few levels", pullback.Repaint(16), karras, 25)
    add("Repaint(16), few settling levels", pullback.Repaint(16), settling, 25)
    for length, times in ((5, 4), (5, 16), (20, 4), (20, 16), (20, 64)):
        levels = karras(100)
        jumps = Jumps(tuple(levels.tolist()), length, times)
        ways.append(Way(f"RePaint, jumps of {length}, × {times}", jumps, levels))
    add("in-range noise, no correction", InRange(), karras, 400)
    for cycles in (4, 16):
        add(f"in-range RePaint × {cycles}", InRange(cycles), karras, 100)
    for size in (0.1, 0.5, 1.0):
        for steps in (1, 4, 16):
            add(f"in-range, Euler–Maruyama {size} σ² × {steps}", Corrector(steps, size), karras, 200)
    add("Langevin(momentum=0)", pullback.Langevin(0.0), settling, 200)
    add("Langevin(momentum=0)", pullback.Langevin(0.0), settling, 1600)
    add("Langevin, 10 visits a level", Rounds(), geometric, 20)
    add("Langevin, 40 visits a level", Rounds(cycles=40), geometric, 10)
    for name, levels in (("Karras", karras), ("geometric", geometric), ("settling³", settling3)):
        for count in (100, 200, 400):
            add(f"Langevin, {name} levels", pullback.Langevin(), levels, count)
    for momentum, step in ((0.5, 1.5), (0.8, 1.5), (0.95, 1.5), (0.9, 0.5), (0.9, 1.0), (0.9, 1.8)):
        add(f"Langevin(momentum={momentum}, step={step})", pullback.Langevin(momentum, step), settling, 200)
    for name, turn in (("fixed", 1.0), ("fresh", 0.0)):
        for count in (50, 200):
            add(f"Langevin, {name} noise outside", Turnover(turn=turn), settling, count)
    for count in (50, 100, 200, 400, 800):
        add("**Langevin()**", pullback.Langevin(), settling, count)
    return ways


def compared() -> list[Way]:
    ways = [Way("plain flow", Constraint(), karras(400)), Way("Repaint(16)", pullback.Repaint(16), karras(100))]
    return ways + [Way("Langevin()", pullback.Langevin(), settling(count)) for count in (100, 200, 400)]


def row(way: Way, case: dict[str, float]) -> list[str]:
    errors = way.errors(case)
    cells = [f"{e.mean():.3f} ({e.max():.3f})" for e in errors.T]
    return [way.name, str(len(way.sigmas) - 1), str(len(way.visits)), *cells]


def propagated() -> None:
    header = ["method", "levels", "calls", "covariance error: mean (worst)", "mean error: mean (worst)"]
    print(f"Tall case, {SEEDS} random worlds:\n")
    print_table(header, [row(way, TALL) for way in tried()])
    print(f"\nOther cases, {SEEDS} random worlds each:\n")
    others = [(name, sizes) for name, sizes in CASES.items() if sizes != TALL]
    print_table(["case", *header], [[name, *row(way, sizes)] for name, sizes in others for way in compared()])


def sampled(samples: int) -> None:
    rows = []
    for way in [*compared(), Way("Langevin()", pullback.Langevin(), settling(50))]:
        for seed in range(3):
            world = GaussWorld("", samples=samples, seed=seed, **TALL)
            batch = world.diffrep()
            result = pullback.sample(
                batch, world.views, world.denoise, way.sigmas, noise="independent", constraint=way.constraint,
                solver=pullback.GaussNewton(iterations=1, cg_iterations=6),
                generator=torch.Generator().manual_seed(seed),
            )  # fmt: skip
            found, chance = world.judge(batch), world.chance(samples)
            exact = world.errors(*propagate(world, way.constraint, way.visits))
            errors = [f"{figure[key]:.3f}" for key in chance for figure in (found, exact, chance)]
            rows.append([way.name, f"{result.nfe / samples:.0f}", str(seed), *errors])
    kinds = [f"{what}, {how}" for what in ("covariance", "mean") for how in ("sampled", "propagated", "chance")]
    print_table(["method", "calls", "world", *kinds], rows)


def mixtures(samples: int) -> None:
    """Two modes of one width in d dimensions, f reaching a line through the first, which the second mode misses."""
    ways = [
        Way("plain flow", Constraint(), karras(100)),
        Way("Repaint(16)", pullback.Repaint(16), karras(50)),
        Way("Projection(0.0)", pullback.Projection(0.0), karras(100)),
        *[Way("Langevin()", pullback.Langevin(), settling(count)) for count in (100, 400, 1600)],
    ]
    rows: dict[str, list[str]] = {}
    for width, miss in ((0.5, 1.0), (0.3, 0.5), (0.1, 0.3)):
        exact = 1 / (1 + math.exp(-(miss**2) / (2 * width**2)))
        rows.setdefault("exact", ["exact", ""]).append(f"{exact:.3f}")
        means = torch.tensor([[-1.0, 0.0], [1.0, miss]], dtype=torch.float64)[:, None, None]
        prior = pullback.priors.MixturePrior(means, width)
        for way in ways:
            batch = LinearBatch(torch.tensor([[1.0], [0.0]], dtype=torch.float64), samples)
            pullback.sample(
                batch, torch.arange(samples), prior.denoise, way.sigmas, noise="independent",
                constraint=way.constraint, solver=pullback.GaussNewton(iterations=1, cg_iterations=1),
                generator=torch.Generator().manual_seed(0),
            )  # fmt: skip
            share = float((batch.theta < 0).double().mean())
            calls = str(len(way.visits))
            rows.setdefault(way.name + calls, [way.name, calls]).append(f"{share:.3f}")
    print_table(
        ["method", "calls", "width 0.5, miss 1", "width 0.3, miss 0.5", "width 0.1, miss 0.3"], [*rows.values()]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sampled", action="store_true", help="draw samples and hold them against the propagated law")
    parser.add_argument("--mixtures", action="store_true", help="the share of the likelier of two modes on a line")
    parser.add_argument("--samples", type=int, default=20_000, help="of a run that draws samples (default 20000)")
    arguments = parser.parse_args()
    if arguments.sampled:
        sampled(arguments.samples)
    elif arguments.mixtures:
        mixtures(arguments.samples)
    else:
        propagated()


if __name__ == "__main__":
    main()
