"""What a comparison would cost."""

from __future__ import annotations

from ...sweep.plan import Plan
from ..damaged import telling
from . import fleet, runner
from .plan import Method
from .runner import Comparison, Cost


def table(comparison: Comparison) -> str:
    """A table with a line for each method: the length, calls and time of a run, the time of all runs, its source.

    The costs are those of the short runs, if OUT has them. Otherwise the calls are those of the method's file, and the
    seconds are what others published for a GPU.
    """
    made = fleet.there(comparison.out, Plan(tuple(runner.short_runs(comparison)), (runner.PROMPT,), (0,)))
    with telling(made):
        return _table(comparison, runner.costs(comparison, made))


def _table(comparison: Comparison, short: dict[str, Cost]) -> str:
    runs = len(comparison.prompts) * len(comparison.seeds)
    head = ["method", "training steps", "denoiser calls", "minutes a run", f"hours for {runs} runs", "time from"]
    lines, total, unknown = [head], 0.0, []
    for method in comparison.methods:
        here = short.get(method.name)
        published = {} if comparison.judging.studio else method.published or {}  # they are of Stable Diffusion
        cost = here or _counted(method, published.get("seconds_per_call", 0.0))
        where = "short runs here" if here else published.get("where", "not known before the first runs")
        if getattr(cost, comparison.budget.kind)[1] <= 0:  # seconds, and none are known
            unknown.append(method.name)
            lines.append([method.name, "?", "?", f"{comparison.budget.amount / 60:.1f}", "?", where])
            continue
        expected = cost.at(cost.length(comparison.budget))
        line = [method.name, f"{expected['steps']:.0f}", f"{expected['nfe']:.0f}"]
        if cost.seconds[1] > 0:
            total += expected["seconds"] * runs
            line += [f"{expected['seconds'] / 60:.1f}", f"{expected['seconds'] * runs / 3600:.1f}"]
        else:
            unknown.append(method.name)
            line += ["?", "?"]
        lines.append([*line, where])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
    known = len(comparison.methods) - len(unknown)
    text += f"\n{total / 3600:.1f} hours in all, one run at a time" if known else "\nHow long it takes is not known yet"
    if unknown:
        text += f"; without {', '.join(unknown)}" if known else ""
        text += (
            f": two short runs of each method, of lengths {' and '.join(map(str, runner.CALIBRATION))}, come first and "
            "tell it; after them --dry-run knows it"
        )
    return text + "\nNot counted: short runs, --tune, and the measures of each run."


def _counted(method: Method, seconds_per_call: float) -> Cost:
    steps, calls = method.steps_per_length, method.calls_per_step
    return Cost((0.0, steps), (0.0, steps * calls), (0.0, steps * calls * seconds_per_call))
