"""Runs every method on every prompt with every seed, on equal terms, but for the runs that the folder has."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ...errors import UserError
from ...output import whole
from ...output.file_names import slug
from .. import trial
from ..campaign import Results, each
from ..damaged import telling
from . import judge, plan
from .plan import Budget, Method

CALIBRATION = (4, 8)
"""Lengths of the two short runs. A line through their costs gives the cost of any length."""
SHOWN = 8
"""How many test views a run renders at most."""
CHECKPOINTS = 6
"""How many checkpoints a run saves, for the curves."""


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how it is run.

    Attributes:
        out: The folder of the comparison.
        config: The base config.
        judging: What the renders are compared with.
        workers: How many runs there are at a time.
        threads: Threads of a run.
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
    workers: int = 2
    threads: int = 1
    threestudio: Path | None = None
    imports: tuple[str, ...] = ()

    def tags(self) -> dict[str, str]:
        """Prompt -> folder name; all names differ, also from those of other comparisons' prompts in this folder."""
        return {prompt: slug(prompt) for prompt in self.prompts}


@dataclass(frozen=True)
class Cost:
    """The cost of a run as lines over its length: each of steps, nfe and seconds is offset + slope · length."""

    steps: tuple[float, float]
    nfe: tuple[float, float]
    seconds: tuple[float, float]

    @staticmethod
    def read(saved: dict[str, list[float]]) -> Cost:
        """Reads the cost as OUT/state.json has it."""
        return Cost(**{kind: (saved[kind][0], saved[kind][1]) for kind in plan.BUDGETS})

    def length(self, budget: Budget) -> int:
        """The length of the longest run within the budget, at least 1."""
        offset, slope = getattr(self, budget.kind)
        return max(1, math.floor((budget.amount - offset) / slope + 1e-6))

    def at(self, length: int) -> dict[str, float]:
        """Steps, calls and seconds of a run of that length."""
        return {kind: line[0] + line[1] * length for kind, line in vars(self).items()}


def results_of(out: Path) -> Results:
    """OUT/state.json: the budget, every method's cost and length, and the rows of finished runs."""
    return Results(out / "state.json", ("method", "prompt", "seed"))


def method_of(results: Results, name: str, config: str) -> dict[str, Any]:
    """The folder's data of a method, its config, cost and length; raises UserError where its config is another."""
    results.match("methods", name, "config", value=config, content=f"of {name} with another config")
    return results.data["methods"][name]


def settle(comparison: Comparison) -> Results:
    """Determines the length of every method's runs, by short runs where the folder lacks their cost.

    Returns:
        The folder's results.

    Raises:
        UserError: The folder has runs on other terms, or a short run fails.
    """
    results = results_of(comparison.out).claimed()
    results.match("budget", value=str(comparison.budget))
    methods = {m.name: method_of(results, m.name, _content(comparison, m)) for m in comparison.methods}
    missing = [method for method in comparison.methods if "cost" not in methods[method.name]]
    if missing:
        print(f"Short runs to find what a step of {', '.join(m.name for m in missing)} costs", flush=True)
    for method in missing:
        write_config(comparison, f"calibration-{method.name}", method, {"checkpoint.every_n_train_steps": 10**6})
    tasks = [(comparison, method, length) for method in missing for length in CALIBRATION]
    measurements: dict[str, dict[int, dict[str, float]]] = {}
    for name, length, cost in each(_calibrate, tasks, comparison.workers):
        measurements.setdefault(name, {})[length] = cost
    for name, costs in measurements.items():
        methods[name]["cost"] = {kind: line(costs, kind) for kind in plan.BUDGETS}
    for method in comparison.methods:
        state = methods[method.name]
        with telling(results):
            cost = Cost.read(state["cost"])
            state["length"] = cost.length(comparison.budget)
        state["expected"] = {kind: round(value, 2) for kind, value in cost.at(state["length"]).items()}
        every = max(1, math.ceil(state["expected"]["steps"] / CHECKPOINTS))
        lengths = dict.fromkeys(method.length, state["length"])
        write_config(comparison, method.name, method, {"checkpoint.every_n_train_steps": every, **lengths})
    results.save()
    return results


def run(comparison: Comparison) -> Results:
    """Makes the runs that the folder lacks. A run that fails has a row too, with the reason."""
    results = settle(comparison)
    if results.rows:
        print(f"Runs that are there already: {len(results.rows)}", flush=True)
    tasks = {
        (method.name, prompt, seed): (comparison, method, prompt, tag, seed)
        for seed in comparison.seeds for prompt, tag in comparison.tags().items() for method in comparison.methods
    }  # fmt: skip
    return results.run(run_one, tasks, comparison.workers, judge.sentence)


def run_one(comparison: Comparison, method: Method, prompt: str, tag: str, seed: int) -> dict[str, Any]:
    """Makes one run and measures it; returns its row."""
    one = trial.Trial(
        comparison.out, method.name, prompt, seed, f"{tag}-{seed}", threestudio=comparison.threestudio,
        imports=comparison.imports,
    )  # fmt: skip
    one = one if one.checkpoint.exists() else _begun(one) or one
    command = one.command()
    reason, memory = one.run(comparison.threads)
    row = {
        "method": method.name, "prompt": prompt, "seed": seed, "tag": one.tag, "reason": reason,
        "command": shlex.join(command),
    }  # fmt: skip
    again = reason is not None and reason.startswith((trial.KILLED, trial.UNLOGGED))  # made again next time
    return row | judge.judge(comparison.judging, method, one, reason, memory) | ({"failed": reason} if again else {})


def _begun(one: trial.Trial) -> trial.Trial | None:
    """The run where an earlier version began it, whose folders had no checksum; None where it did not."""
    readable = re.sub(r"[^a-z0-9]+", "-", one.prompt.lower()).strip("-")[:80] or "prompt"
    for folder in sorted((one.out / "runs" / one.method).glob(f"{readable}*-{one.seed}")):
        found, config = dataclasses.replace(one, tag=folder.name), folder / "configs" / "parsed.yaml"
        if found.checkpoint.exists() and config.exists():
            block = OmegaConf.select(OmegaConf.load(config), "system.prompt_processor")
            if block is not None and block.get("prompt") == one.prompt and folder.name != one.tag:
                return found
    return None


def _calibrate(comparison: Comparison, method: Method, length: int) -> tuple[str, int, dict[str, float]]:
    tag = f"{method.name}-{length}"
    one = trial.Trial(
        comparison.out, "calibration", comparison.prompts[0], comparison.seeds[0], tag, tuple(method.overrides(length)),
        comparison.threestudio, config=comparison.out / "configs" / f"calibration-{method.name}.yaml",
        imports=comparison.imports,
    )  # fmt: skip
    reason, _ = one.run(comparison.threads)
    if reason is not None:
        raise UserError(f"{method.name} does not run: {reason} (log: {one.log})")
    course = trial.read_course(one.folder, method.calls_per_step)
    return method.name, length, {"steps": course.steps[-1], "nfe": course.nfe[-1], "seconds": course.seconds[-1]}


def line(costs: dict[int, dict[str, float]], kind: str) -> list[float]:
    """Offset and slope of the line through the costs of two lengths."""
    (low, first), (high, second) = sorted(costs.items())
    slope = (second[kind] - first[kind]) / (high - low)
    if slope <= 0:  # seconds of a loaded machine
        return [0.0, second[kind] / high]
    return [first[kind] - slope * low, slope]


def _content(comparison: Comparison, method: Method) -> str:
    """A checksum of all that a run of the method depends on but prompt and seed."""
    config = OmegaConf.to_yaml(method.config, sort_keys=True)
    return hashlib.sha256(f"{config}\n{comparison.threestudio is not None}".encode()).hexdigest()


def write_config(comparison: Comparison, name: str, method: Method, settings: dict[str, Any]) -> None:
    """Writes OUT/configs/NAME.yaml, for launch.py: a method with more settings."""
    logged = {
        "trainer.limit_val_batches": 0, "trainer.log_every_n_steps": 1, "checkpoint.save_last": True,
        "checkpoint.save_top_k": -1,
    }  # fmt: skip
    shown = "data.n_test_views"  # the page has turntables of its own
    if OmegaConf.select(method.config, shown, default=0) > SHOWN:
        logged[shown] = SHOWN
    folder = comparison.out / "configs"
    folder.mkdir(parents=True, exist_ok=True)
    text = OmegaConf.to_yaml(method.with_settings({**logged, **settings}).config)
    whole.write(folder / f"{name}.yaml", f"# {method.title} ({method.reference}), as pullback compare runs it\n{text}")
