"""Runs every method on every prompt with every seed, on equal terms, but for the runs that the folder has."""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ...sweep.folder import Folder
from ...sweep.making import Outcome
from ...sweep.plan import Plan, Unit, Variant
from ...version import commit
from .. import trial
from ..damaged import telling
from . import fleet, judge, plan
from .fleet import Fleet, Made
from .plan import Budget, Method

CALIBRATION = (4, 8)
"""Lengths of the two short runs. A line through their costs gives the cost of any length."""
PROMPT = "a red cube"
"""Of the short runs: always the same one, so that a comparison keeps its lengths whatever prompts are added."""
SHOWN = 8
"""How many test views a run renders at most."""
CHECKPOINTS = 6
"""How many checkpoints a run saves, for the curves."""
_UNSEEN = {"checkpoint.every_n_train_steps": 10**6, "trainer.limit_test_batches": 0}
"""Settings of a short run, which nobody looks at."""


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how it is run.

    Attributes:
        out: The folder of the comparison.
        config: The base config.
        judging: What the renders are compared with.
        fleet: Where the runs are made.
        threestudio: A checkout of threestudio; None for the bundled host.
        imports: Modules that register parts of a user.
    """

    out: Path
    config: Path
    methods: list[Method]
    prompts: list[str]
    seeds: list[int]
    budget: Budget
    judging: judge.Judging
    fleet: Fleet = field(default_factory=Fleet)
    threestudio: Path | None = None
    imports: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cost:
    """The cost of a run as lines over its length: each of steps, nfe and seconds is offset + slope · length."""

    steps: tuple[float, float]
    nfe: tuple[float, float]
    seconds: tuple[float, float]

    @staticmethod
    def of(costs: dict[int, dict[str, float]]) -> Cost:
        """The lines through the costs of two lengths."""
        return Cost(**{kind: _line(costs, kind) for kind in plan.BUDGETS})

    def length(self, budget: Budget) -> int:
        """The length of the longest run within the budget, at least 1."""
        offset, slope = getattr(self, budget.kind)
        return max(1, math.floor((budget.amount - offset) / slope + 1e-6))

    def at(self, length: int) -> dict[str, float]:
        """Steps, calls and seconds of a run of that length."""
        return {kind: line[0] + line[1] * length for kind, line in vars(self).items()}


@dataclass(frozen=True)
class Making:
    """Makes one run, and measures it: what a comparison's workers do.

    Attributes:
        methods: Variant -> its method.
    """

    methods: dict[str, Method]
    judging: judge.Judging
    threads: int = 1
    threestudio: Path | None = None

    def __call__(self, folder: Folder, unit: Unit) -> Outcome:
        """Makes the run, or goes on with it; of one that fails, the row has the reason."""
        method, began = self.methods[unit.variant], time.monotonic()
        one = _trial(folder, unit, self.threestudio)
        command = shlex.join(one.command())
        reason, memory = one.run(self.threads)
        if reason is not None and reason.startswith((trial.KILLED, trial.UNLOGGED)):
            return Outcome({}, reason)
        row = {"method": method.name, "tag": one.tag, "command": command, "commit": commit()}
        row |= judge.judge(self.judging, method, one, reason, memory)
        return Outcome({**row, "seconds": round(time.monotonic() - began, 1)})


@dataclass(frozen=True)
class Short(Making):
    """Makes one of the short runs, and says what it cost."""

    def __call__(self, folder: Folder, unit: Unit) -> Outcome:
        """Makes the run."""
        method, one = self.methods[unit.variant], _trial(folder, unit, self.threestudio)
        reason, _ = one.run(self.threads)
        if reason is not None:
            return Outcome({}, reason)
        course = trial.read_course(one.folder, method.calls_per_step)
        return Outcome({"cost": {kind: getattr(course, kind)[-1] for kind in plan.BUDGETS}})


def run(comparison: Comparison) -> tuple[Made, dict[str, int]]:
    """Makes the runs that the folder lacks. A run that fails has a row too, with the reason.

    Returns:
        The rows, and the steps of a run of each method.

    Raises:
        UserError: A short run fails.
    """
    short = short_runs(comparison)
    made = fleet.make(
        comparison.fleet, comparison.out, Plan(tuple(short), (PROMPT,), (0,)), _making(Short, comparison, short),
        lambda row: f"{row['method']}, for its cost: {row['reason'] or 'done'}", comparison.threestudio is None,
    )  # fmt: skip
    fleet.refuse_failed(made)
    with telling(made):
        known = costs(comparison, made)
        lengths = {name: cost.length(comparison.budget) for name, cost in known.items()}
        steps = {name: round(cost.at(lengths[name])["steps"]) for name, cost in known.items()}
    variants = {}
    for method in comparison.methods:
        every = max(1, math.ceil(steps[method.name] / CHECKPOINTS))
        more = {"checkpoint.every_n_train_steps": every, **dict.fromkeys(method.length, lengths[method.name])}
        variants[variant(comparison, method, more)] = method
    return make(comparison, variants), steps


def make(comparison: Comparison, variants: dict[Variant, Method]) -> Made:
    """Makes the runs of these variants that the folder lacks."""
    asked = Plan(tuple(variants), tuple(comparison.prompts), tuple(comparison.seeds))
    making = _making(Making, comparison, variants)
    return fleet.make(
        comparison.fleet, comparison.out, asked, making, judge.sentence, comparison.threestudio is None
    )  # fmt: skip


def short_runs(comparison: Comparison) -> dict[Variant, Method]:
    """The short runs, whose names have their lengths, and their methods."""
    return {
        variant(comparison, method, _UNSEEN, length): method
        for method in comparison.methods for length in CALIBRATION
    }  # fmt: skip


def costs(comparison: Comparison, made: Made) -> dict[str, Cost]:
    """Each method's cost, by its short runs; a method whose short runs are not there is left out."""
    found = {row["method"]: row["cost"] for row in made.rows if row["status"] != "failed"}
    names = {
        method.name: {length: _short_name(method, length) for length in CALIBRATION} for method in comparison.methods
    }
    return {
        method: Cost.of({length: found[name] for length, name in both.items()})
        for method, both in names.items() if found.keys() >= set(both.values())
    }  # fmt: skip


def variant(comparison: Comparison, method: Method, settings: dict[str, Any], length: int | None = None) -> Variant:
    """A method with more settings as a sweep has it; with a length, one of its short runs."""
    label = method.name if length is None else _short_name(method, length)
    words = () if length is None else tuple(method.overrides(length))
    where = "pullback compare" + (" --threestudio" if comparison.threestudio is not None else "")
    return Variant(label, _config(method, settings, where), words, comparison.imports)


def _short_name(method: Method, length: int) -> str:
    return f"{method.name}, short run of length {length}"


def _making(kind: type[Making], comparison: Comparison, variants: dict[Variant, Method]) -> Making:
    methods = {one.name: method for one, method in variants.items()}
    return kind(methods, comparison.judging, comparison.fleet.threads, comparison.threestudio)


def _trial(folder: Folder, unit: Unit, threestudio: Path | None) -> trial.Trial:
    own = folder.variants[unit.variant]
    return trial.Trial(
        folder.out, unit.variant, unit.prompt, unit.seed, unit.tag, own.words, threestudio, folder.config(unit),
        own.imports,
    )  # fmt: skip


def _config(method: Method, settings: dict[str, Any], where: str) -> str:
    """The config, for launch.py, of a method with more settings."""
    logged = {
        "trainer.limit_val_batches": 0, "trainer.log_every_n_steps": 1, "checkpoint.save_last": True,
        "checkpoint.save_top_k": -1,
    }  # fmt: skip
    shown = "data.n_test_views"  # the page has turntables of its own
    if OmegaConf.select(method.config, shown, default=0) > SHOWN:
        logged[shown] = SHOWN
    text = OmegaConf.to_yaml(method.with_settings({**logged, **settings}).config)
    return f"# {method.title} ({method.reference}), as {where} runs it\n{text}"


def _line(costs: dict[int, dict[str, float]], kind: str) -> tuple[float, float]:
    """Offset and slope of the line through the costs of two lengths."""
    (low, first), (high, second) = sorted(costs.items())
    slope = (second[kind] - first[kind]) / (high - low)
    if slope <= 0:  # seconds of a loaded machine
        return 0.0, second[kind] / high
    return first[kind] - slope * low, slope
