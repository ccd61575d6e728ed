"""`pullback sweep`: many prompts, seeds and settings on many workers."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..host.arguments import add_import
from ..output.words import counted
from ..resources import TINY_CONFIG
from .arguments import at_least, parse_seeds
from .engine import add_engine

if TYPE_CHECKING:  # they need packages that `pullback --help` does without
    from ..sweep.folder import Folder
    from ..sweep.plan import Plan

EXAMPLES = """examples:
  pullback sweep --prompts prompts.txt --seeds 0-7 --out outputs/sweep
  pullback sweep --prompts "a red cube; a blue cone" --seeds 0-3 system.guidance.levels=15,30
  pullback sweep --prompts prompts.txt --methods pullback,sds --on ray --with address=auto
  pullback sweep --out /shared/sweep                  (one more driver, or on another machine: it helps)
  pullback sweep status outputs/sweep

A run is the unit of work; a setting with commas is a run of each value. The same command again goes on where it was
stopped, and one with more prompts or seeds adds theirs. docs/scale.md has more."""


def add_sweep(commands: Any) -> None:
    """Adds the command to an argparse's sub-commands."""
    sweep = commands.add_parser(
        "sweep",
        help="make many runs on many workers, or machines",
        usage="pullback sweep [option ...] [key=a,b,c ...]\n       pullback sweep status DIR",
        description="Makes many runs. `sweep status DIR` says how far those of a folder are.",
        epilog=EXAMPLES,
    )
    sweep.add_argument(
        "--config", type=Path, default=TINY_CONFIG, help="config (default the shipped pullback-nerf-tiny.yaml)"
    )
    sweep.add_argument("--methods", help="names or YAML files as for compare, commas between (default: the config's)")
    sweep.add_argument("--prompts", help="a file with a prompt a line, or prompts with ; between")
    sweep.add_argument("--seeds", type=parse_seeds, default=[0], help="0-7 or 0,2,5 (default 0)")
    sweep.add_argument("--out", type=Path, help="folder of the sweep, shared by all machines (default outputs/sweep)")
    add_engine(sweep, None, "one a GPU, or else one a core")
    sweep.add_argument("--threads", type=at_least(1), default=1, help="threads of a run on a CPU (default 1)")
    sweep.add_argument("--retries", type=at_least(0), default=2, help="of a run that fails (default 2)")
    sweep.add_argument("--retry-failed", action="store_true", help="make the runs again that have failed")
    sweep.add_argument("--shard", metavar="I/N", help="only every N-th run, from the I-th on; I from 0 to N - 1")
    sweep.add_argument("--dry-run", action="store_true", help="print how many runs there would be, and end")
    add_import(sweep)
    sweep.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="key=a,b,c",
        help="config overrides, for every run; with commas, a run of each value",
    )
    sweep.set_defaults(run=run_sweep)


def run_sweep(args: argparse.Namespace) -> int:
    """Makes the runs, or says how far they are."""
    from ..sweep import process
    from ..sweep.folder import Folder
    from ..sweep.status import status

    if args.overrides[:1] == ["status"]:
        if len(args.overrides) != 2:
            raise UserError("`sweep status` takes one folder: pullback sweep status DIR")
        print(status(Folder(Path(args.overrides[1]), args.expire)))
        return 0
    out = args.out or Path("outputs/sweep")
    folder = Folder(out, args.expire)
    if args.prompts is None and (args.overrides or args.methods):
        raise UserError("--prompts is missing: give a file with a prompt a line, or --out alone to go on with a sweep")
    if not args.dry_run:
        process.server()  # its imports take as long as the plan's
    plan = None if args.prompts is None else _plan(args)
    ahead = folder.check()
    if plan is not None:
        folder.propose(plan)
    return _run(args, folder, ahead, plan)


def _plan(args: argparse.Namespace) -> Plan:
    from ..evaluate.compare import plan as methods
    from ..host.config import read_yaml
    from ..sweep.plan import Plan, Variant, grid, label

    choices = list(grid(args.overrides))
    changing = [key for key in dict(word.split("=", 1) for word in choices[0]) if len(_values_of(choices, key)) > 1]
    if args.methods:
        from omegaconf import OmegaConf

        loaded = methods.load_methods(args.config, args.methods.split(","), None)
        configs = {method.name: OmegaConf.to_yaml(method.config) for method in loaded}
    else:
        read_yaml(str(args.config))  # refused here
        from ..resources import find

        configs = {args.config.stem: find(args.config).read_text(encoding="utf-8")}
    variants = tuple(
        Variant(label(name, words, changing), text, words, tuple(args.imports))
        for name, text in configs.items() for words in choices
    )  # fmt: skip
    return Plan(variants, tuple(methods.load_prompts(args.prompts)), tuple(dict.fromkeys(args.seeds)))


def _values_of(choices: list[tuple[str, ...]], key: str) -> set[str]:
    return {word for words in choices for word in words if word.startswith(f"{key}=")}


def _run(args: argparse.Namespace, folder: Folder, ahead: float, plan: Plan | None) -> int:
    from ..evaluate import options
    from ..sweep import check, drive, engines
    from ..sweep.claims import version
    from ..sweep.folder import APART
    from ..sweep.status import table
    from ..sweep.worker import Job

    units = folder.units(args.shard)
    kind, chosen = engines.find(args.on), options.of_engine(args.on, args.options)
    if abs(ahead) > APART:
        print(
            f"This machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} that of {folder.out}; "
            "claims do not go by it, but times in logs and results do: set it", file=sys.stderr,
        )  # fmt: skip
    if args.dry_run:
        counts = f"{counted(len(units), 'run')} of {counted(len(folder.variants), 'variant')}"
        print(f"{counts}, {len(folder.ended())} of them there already")
        return 0
    if args.retry_failed:
        print(f"{counted(folder.retry_failed(folder.units()), 'failed run')} to be made again", flush=True)
    present = folder.ended()
    if missing := [unit for unit in units if unit.name not in present]:
        check.check(folder, missing)
    if plan is not None:
        folder.add(plan)  # now that it can be run: a plan stays, and every later command would be refused for it
    job = Job(
        str(folder.out), args.threads, args.retries, args.expire, args.shard, version(), os.getcwd(),
    )  # fmt: skip
    try:
        drive.drive(folder, job, lambda: kind(job, chosen, args.workers), lambda line: print(line, flush=True))
    except drive.Stopped as stopped:
        print(stopped, flush=True)
        return 130
    finally:
        table(folder)
    failed = sum(row["status"] == "failed" for _, row in folder.rows(units))
    print(f"The table is {folder.out / 'table.csv'}" + f"; {failed} of {len(units)} runs failed" * bool(failed))
    return 1 if failed else 0
