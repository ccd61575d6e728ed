"""What a run of the shipped model is worth by its settings, call for call: guidance, integrators, fits, levels.

    python experiments/calls.py --settings six,interval --prompts few --seeds 1000,1001   # a search
    python experiments/calls.py --settings surface --seeds 3000-3003                      # judged on other seeds
    python experiments/calls.py --settings mine --try "mine: system.guidance.levels=8 data.batch_size=4"

A setting is a change of `configs/compare/pullback-nerf-tiny.yaml`'s `pullback`, by dotted keys. Runs are those of
`pullback compare`, judged in the same way: the nearest of the 216 exact objects over 16 held-out views, PSNR to it, and
KID to 64 pictures of the model a prompt. Calls are counted as they are made. OUT is a sweep's folder, and the same
command goes on; the table has all rows of the settings, prompts and seeds that are named.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch
from pullback.cli.arguments import parse_seeds
from pullback.evaluate.compare import fleet, judge, plan, runner, summary
from pullback.evaluate.compare.report.table import compact
from pullback.output.markdown import print_table

CONFIG = Path("configs/pullback-nerf-tiny.yaml")
PROMPTS = Path("configs/compare/tiny-12.txt")
FEW = ["a green cube", "a yellow object", "a cube with a red front and a blue back", "a yellow cone"]
"""Prompts of a short search, one of each kind and a second full one."""
EIGHT = "data.batch_size=4 system.guidance.fit_steps=20 system.guidance.levels=8"
INTERVAL = "system.guidance.guidance_policy={type: interval, sigma_low: 4}"
KEPT = (
    "data.batch_size=4 system.guidance.fit_steps=20 system.guidance.constraint=none system.guidance.settle_sigma=null"
)
SETTINGS = {
    # the best with 96 calls before guidance policies: docs/results/compare.md
    "six": "data.batch_size=4 system.guidance.fit_steps=20 system.guidance.levels=6",
    # eight levels for as many calls, since half of them have no guidance
    "interval": f"{EIGHT} {INTERVAL}",
    "surface": f"{EIGHT} {INTERVAL} system.guidance.noise=surface",
    # what policies change, visit for visit
    "always": EIGHT,
    "adaptive": f"{EIGHT} system.guidance.guidance_policy=adaptive",
    # integrators, with noise that is kept to the end
    "euler-16": f"{KEPT} system.guidance.levels=16",
    "euler-8": f"{KEPT} system.guidance.levels=8",
    "multistep-8": f"{KEPT} system.guidance.levels=8 system.guidance.order=multistep",
    "heun-8": f"{KEPT} system.guidance.levels=8 system.guidance.order=2",
}
COLUMNS = ("right", "psnr", "kid", "diversity", "nfe", "seconds")


def comparison_of(out: Path, texts: dict[str, str], prompts: list[str], seeds: list[int], workers: int) -> Any:
    """The settings as methods of one comparison."""
    base = plan.load_methods(CONFIG, ["pullback"], None)[0]
    methods = [
        dataclasses.replace(plan.overridden(base, split(text)), name=name, title=name) for name, text in texts.items()
    ]
    judging, budget = judge.Judging(True, None, tuple(prompts)), plan.Budget("steps", 1.0)
    return runner.Comparison(out, CONFIG, methods, prompts, seeds, budget, judging, fleet.Fleet(workers=workers))


def split(text: str) -> list[str]:
    """The words key=value of a setting; a value in braces may have spaces."""
    words: list[str] = []
    for word in text.split():
        if words and words[-1].count("{") > words[-1].count("}"):
            words[-1] += f" {word}"
        else:
            words.append(word)
    return words


def run(comparison: runner.Comparison) -> list[dict[str, Any]]:
    """Makes the runs that the folder lacks, and returns the rows of all."""
    rare = {"checkpoint.every_n_train_steps": 10**6}
    return runner.make(comparison, {runner.variant(comparison, m, rare): m for m in comparison.methods}).rows


def table(comparison: runner.Comparison, found: list[dict[str, Any]]) -> list[list[str]]:
    """A line a setting: mean and 95 % interval of each measure."""
    model = str(comparison.methods[0].config.system.prompt_processor.pretrained_model_name_or_path)
    scale = float(comparison.methods[0].config.system.guidance.guidance_scale)
    reference = summary.Reference(comparison.out, model, scale, judge.features_of(comparison.judging))
    lines = []
    for method in comparison.methods:
        rows = [row for row in found if row["method"] == method.name]
        entries = summary.averages(method.name, rows) + summary.of_sets(method.name, rows, comparison.out, reference)
        cells = {entry["measure"]: entry for entry in entries}
        units = {measure.name: measure.unit for measure in summary.MEASURES}
        lines.append([method.name, str(len(rows))])
        for name in COLUMNS:
            value = cells.get(name)
            texts = [compact(value[key], units[name]) for key in ("mean", "low", "high")] if value else []
            lines[-1].append(f"{texts[0]} ({texts[1]} to {texts[2]})" if texts else "")
    return lines


def main() -> None:
    """Makes the runs that OUT lacks, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", default="six", help="names, separated by commas (default six)")
    parser.add_argument("--try", dest="more", action="append", default=[], help='"NAME: key=value …", a setting more')
    parser.add_argument("--seeds", type=parse_seeds, default=[1000, 1001], help="default 1000,1001")
    parser.add_argument("--prompts", default=str(PROMPTS), help="a file, texts with ; between them, or few")
    parser.add_argument("--out", type=Path, default=Path("outputs/calls"), help="folder of the rows")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (default 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    known = SETTINGS | {name.strip(): text for name, _, text in (word.partition(":") for word in arguments.more)}
    names = arguments.settings.split(",")
    if missing := [name for name in names if name not in known]:
        parser.error(f"no setting {missing[0]!r}; there are {', '.join(known)}")
    prompts = FEW if arguments.prompts == "few" else plan.load_prompts(arguments.prompts)
    texts = {name: known[name] for name in names}
    comparison = comparison_of(arguments.out.resolve(), texts, prompts, arguments.seeds, arguments.workers)
    print_table(["setting", "runs", *COLUMNS], table(comparison, run(comparison)))


if __name__ == "__main__":
    main()
