"""Methods compared on a world whose right answer is known, with the measures of that world."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ...errors import NonFiniteError, UserError
from ...sweep.folder import Folder
from ...sweep.making import Outcome
from ...sweep.plan import Plan, Unit, Variant
from ...version import commit
from .. import metrics
from ..damaged import telling
from ..exact_worlds import methods, world
from ..exact_worlds.sceneworld import SceneWorld
from . import fleet, plan, runner, summary
from .judge import save_strip
from .report import page


def compare(args: argparse.Namespace, command: str) -> Path:
    """Makes the runs that OUT lacks, and writes the report.

    Args:
        args: The arguments of `pullback compare --world`; its overrides are "METHOD.option=value".
        command: The command line, for the report.

    Returns:
        The page.

    Raises:
        UserError: The world has no scenes, or a method or an override is unknown.
    """
    name, budget, seeds, overrides = args.world, args.budget, args.seeds, args.overrides
    where, names = world(name), args.methods.split(",") if args.methods else usual()
    if not isinstance(where, SceneWorld):
        raise UserError(f"--world {name} has no views to compare; use a world of scenes, such as shapes or two-tone")
    texts = {method: _text(method, overrides) for method in names}
    for word in overrides:
        if word.partition(".")[0] not in names:
            raise UserError(f"{word!r} names none of the methods; with --world, options are METHOD.option=value")
    out, machines, terms = args.out.resolve(), fleet.of(args), plan.Budget.parse(budget)
    short = [
        Variant(_short_name(method, length), _sized(method, text, length))
        for method, text in texts.items() for length in runner.CALIBRATION
    ]  # fmt: skip
    made = fleet.make(machines, out, Plan(tuple(short), (name,), (0,)), cost_one, _said, checked=False)
    fleet.refuse_failed(made)
    with telling(made):
        found = {row["method"]: row["cost"] for row in made.rows}
        lengths = {
            method: runner.Cost.of({n: found[_short_name(method, n)] for n in runner.CALIBRATION}).length(terms)
            for method in texts
        }  # fmt: skip
    asked = Plan(
        tuple(Variant(method, _sized(method, text, lengths[method])) for method, text in texts.items()),
        (name,), tuple(dict.fromkeys(seeds)),
    )  # fmt: skip
    made = fleet.make(machines, out, asked, run_one, _said, checked=False)
    with telling(made):
        entries = [entry for method in names for entry in _entries(where, method, made.rows)]
    described = [
        {"name": m.name, "title": m.title, "reference": m.reference, "settings": {"method": texts[m.name]},
         "steps": lengths[m.name]}
        for m in map(methods.METHODS.__getitem__, names)
    ]  # fmt: skip
    about = {
        "budget": budget, "config": f"world {name}", "model": "an exact denoiser", "command": command,
        "machine": summary.machine(args.workers, 1, made.rows), "notes": [_right_answer(where)],
    }  # fmt: skip
    with fleet.writing(out), telling(made):
        summary.assemble(out, about, described, [name], seeds, entries, made.rows)
        return page.build(out)


def run_one(folder: Folder, unit: Unit) -> Outcome:
    """Makes and judges one sample, and writes its turntable, which is of the held-out views."""
    own = folder.variants[unit.variant]
    where: Any = world(unit.prompt)
    where.prepare()
    row: dict[str, Any] = {
        "method": own.label, "tag": unit.tag, "status": "diverged", "reason": None, "commit": commit(),
        "measures": {}, "curve": [], "turntable": None, "frames": len(where.held_out), "size": 24, "judged": None,
        "command": shlex.join([
            sys.executable, "-m", "pullback", "evaluate", "worlds", "--world", unit.prompt, "--method", own.config,
            "--seeds", str(unit.seed),
        ]),
    }  # fmt: skip
    start = time.process_time()
    try:
        outcome = methods.parse(own.config)(where, unit.seed)
    except NonFiniteError as error:
        return Outcome(row | {"reason": str(error), "said": str(error)})
    seconds = time.process_time() - start
    verdict = where.judge(outcome.diffrep)
    with torch.no_grad():
        frames: Any = outcome.diffrep.render(where.held_out)  # pyright: ignore
    row["turntable"] = f"turntables/{unit.variant}/{unit.tag}.webp"
    save_strip(folder.out / row["turntable"], frames)
    measures = {
        "blend": float(verdict["blend"]), "consistent": float(verdict["consistent"]), "rms": verdict["rms"],
        "nfe": outcome.nfe, "seconds": round(seconds, 2),
    }  # fmt: skip
    status = "diverged" if (reason := metrics.diverged(frames)) else "done"
    sentence = reason or where.verdict(verdict)
    return Outcome(
        row | {"status": status, "reason": reason, "measures": measures, "judged": verdict, "said": sentence}
    )


def cost_one(folder: Folder, unit: Unit) -> Outcome:
    """Makes one of a method's short runs, and says what it cost."""
    text, where = folder.variants[unit.variant].config, world(unit.prompt)
    where.prepare()
    start = time.process_time()
    outcome = methods.parse(text)(where, unit.seed)
    steps = int(text.rpartition("=")[2])
    cost = {"steps": steps, "nfe": outcome.nfe, "seconds": time.process_time() - start}
    return Outcome({"cost": cost, "said": f"{outcome.nfe} calls"})


def usual() -> list[str]:
    """The methods that can be compared."""
    return [method.name for method in methods.METHODS.values() if method.length is not None]


def _text(method: str, overrides: list[str]) -> str:
    if method not in usual():
        raise UserError(f"--methods {method} has no form for exact worlds; use {', '.join(usual())}")
    own = [word.partition(".")[2] for word in overrides if word.startswith(f"{method}.")]
    return methods.parse(" ".join([method, *own])).label


def _sized(method: str, text: str, length: int) -> str:
    return f"{text} {methods.METHODS[method].length}={length}"


def _short_name(method: str, length: int) -> str:
    return f"{method}, short run of length {length}"


def _said(row: dict[str, Any]) -> str:
    return f"{row['method']}, seed {row['seed']}: {row.get('said', row['reason'])}"


def _entries(where: Any, method: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The averages, and the histogram's distance from the right one, with a bootstrap interval over seeds."""
    own = [row for row in rows if row["method"] == method]
    verdicts = [row["judged"] for row in own if row.get("judged")]
    entries = summary.averages(method, own)
    if verdicts:
        generator = torch.Generator().manual_seed(0)
        draws = [torch.randint(len(verdicts), (len(verdicts),), generator=generator).tolist() for _ in range(500)]
        values = torch.tensor([_distance(where, [verdicts[i] for i in draw]) for draw in draws])
        low, high = values.quantile(torch.tensor([0.025, 0.975])).tolist()
        value = _distance(where, verdicts)
        entries.append({
            "method": method, "measure": "histogram", "mean": value, "low": low, "high": high, "count": len(verdicts),
        })  # fmt: skip
    return entries


def _distance(where: Any, verdicts: list[dict[str, Any]]) -> float:
    shares, weights = where.histogram(verdicts)
    return float((shares - weights).abs().sum() / 2)


def _right_answer(where: Any) -> str:
    count = len(where.weights)
    return f"The right answer: each of {count} scenes by its weight, no blends, all views of one scene."
