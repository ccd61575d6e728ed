"""`pullback compare`: from the command line's words to the report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...host.parts import load_own
from ...resources import find
from ..damaged import telling
from ..metrics.features import load_clip
from ..studio.model import is_of_the_studio
from . import estimate, fleet, plan, runner, summary, tune
from .judge import Judging, features_of
from .plan import Budget, Method
from .report import page


def compare(args: argparse.Namespace, command: str) -> Path | None:
    """Makes the runs that OUT lacks, and writes the report.

    Args:
        args: The arguments of `pullback compare`.
        command: The command line, for the report.

    Returns:
        The page; None with --dry-run, which prints the cost of the comparison and makes no run.

    Raises:
        UserError: An argument is wrong.
    """
    comparison = prepare(args)
    if args.dry_run:
        print(estimate.table(comparison))
        return None
    if grid := tune.parse(args.tuned):
        comparison = tune.tune(comparison, grid)
    made, steps = runner.run(comparison)
    with fleet.writing(comparison.out):
        return report(comparison, made, steps, command)


def report(comparison: runner.Comparison, made: fleet.Made, steps: dict[str, int], command: str) -> Path:
    """Writes compare.json and the page; returns the page."""
    extractor, reference, notes = features_of(comparison.judging), None, []
    if extractor is not None:
        path, scale = model_of(comparison.methods[0]), reference_scale(comparison.methods)
        reference = summary.Reference(comparison.out, path, scale, extractor)
        notes.append(
            f"KID is against {summary.PICTURES} pictures of the model a prompt, by DDIM with guidance {scale:g}, in "
            f"features of {extractor.name}."
        )
    with telling(made):
        summary.write(comparison, made.rows, steps, command, notes, reference)
    return page.build(comparison.out)


def prepare(args: argparse.Namespace) -> runner.Comparison:
    """The comparison that the arguments describe; raises UserError where one is wrong."""
    load_own(args.imports)  # a module that cannot be imported is refused here, before any run
    names = args.methods.split(",") if args.methods else plan.usual()
    loaded = plan.load_methods(args.config, names, args.settings)
    methods, threestudio = [plan.overridden(method, args.overrides) for method in loaded], args.threestudio
    if threestudio is not None:
        if not (threestudio / "launch.py").is_file():
            raise UserError(f"--threestudio {threestudio} is no checkout of threestudio: it has no launch.py")
        methods = [plan.for_threestudio(method) for method in methods]
    if len({method.name for method in methods}) < len(methods):
        raise UserError("--methods names one method twice; give each once")
    texts = plan.load_prompts(args.prompts)
    if args.clip is not None:
        load_clip(args.clip)  # refused here, before any run
    judging = Judging(is_of_the_studio(model_of(methods[0])), args.clip, tuple(texts))
    return runner.Comparison(
        args.out.resolve(), args.config, methods, texts, args.seeds, Budget.parse(args.budget), judging,
        fleet.of(args), threestudio=threestudio and threestudio.resolve(), imports=tuple(args.imports),
    )  # fmt: skip


def model_of(method: Method) -> str:
    """The diffusion model's folder or hub id."""
    return str(find(str(method.config.system.prompt_processor.pretrained_model_name_or_path)))


def reference_scale(methods: list[Method]) -> float:
    """The guidance scale for the model's own pictures: that of `pullback`, or else 7.5."""
    scales: list[Any] = [m.config.system.guidance.guidance_scale for m in methods if m.name == "pullback"]
    return float(scales[0]) if scales else 7.5
