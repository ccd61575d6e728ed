"""`pullback compare`: from the command line's words to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import UserError
from ...host.parts import load_own
from ...resources import TINY_MODEL, find
from ..campaign import Results
from . import estimate, plan, runner, summary, tune
from .judge import Judging, features_of
from .plan import Budget, Method
from .report import page


def compare(
    config: Path, methods: list[str], prompts: str, seeds: list[int], out: Path, budget: str, settings: Path | None,
    clip: Path | None, threestudio: Path | None, workers: int, tuned: list[str], dry_run: bool,
    imports: list[str], overrides: list[str], command: str,
) -> Path | None:  # fmt: skip
    """Runs what OUT lacks and writes the report; returns the page. dry_run: prints what it would cost, and no more.

    The arguments are those of the command line. Raises UserError for what is wrong with them.
    """
    comparison = prepare(
        config, methods, prompts, seeds, out, budget, settings, clip, threestudio, workers, imports, overrides
    )  # fmt: skip
    if dry_run:
        print(estimate.table(comparison))
        return None
    if grid := tune.parse(tuned):
        comparison = tune.tune(comparison, grid)
    return report(comparison, runner.run(comparison), command)


def report(comparison: runner.Comparison, results: Results, command: str) -> Path:
    """compare.json and the page of the runs there are."""
    found, reference, notes = features_of(comparison.judging), None, []
    if found is not None:
        path, scale = model_of(comparison.methods[0]), reference_scale(comparison.methods)
        reference = summary.Reference(comparison.out, path, scale, found)
        notes.append(
            f"KID is against {summary.PICTURES} pictures of the model a prompt, by DDIM with guidance {scale:g}, in "
            f"features of {found.name}."
        )
    summary.write(comparison, results, command, notes, reference)
    return page.build(comparison.out)


def prepare(
    config: Path, names: list[str], prompts: str, seeds: list[int], out: Path, budget: str, settings: Path | None,
    clip: Path | None, threestudio: Path | None, workers: int, imports: list[str],
    overrides: list[str],
) -> runner.Comparison:  # fmt: skip
    """What the command line describes, checked."""
    load_own(imports)  # what cannot be imported is refused here, before any run
    methods = [plan.overridden(method, overrides) for method in plan.load_methods(config, names, settings)]
    if threestudio is not None:
        methods = [plan.for_threestudio(method) for method in methods]
    if len({method.name for method in methods}) < len(methods):
        raise UserError("--methods names one method twice; give each once")
    texts = plan.load_prompts(prompts)
    studio = Path(model_of(methods[0])).resolve() == TINY_MODEL.resolve()
    judging = Judging(studio, clip, tuple(texts))
    return runner.Comparison(
        out.resolve(), config, methods, texts, seeds, Budget.parse(budget), judging, workers,
        threestudio=None if threestudio is None else threestudio.resolve(), imports=tuple(imports),
    )  # fmt: skip


def model_of(method: Method) -> str:
    """The diffusion model's folder or hub id."""
    path = str(method.config.system.prompt_processor.pretrained_model_name_or_path)
    return str(find(path))


def reference_scale(methods: list[Method]) -> float:
    """The guidance scale of the model's own pictures: the pulled-back method's, which samples them, or else 7.5."""
    scales: list[Any] = [m.config.system.guidance.guidance_scale for m in methods if m.name == "pullback"]
    return float(scales[0]) if scales else 7.5
