"""`pullback compare` and `pullback report`: methods side by side, and the page of them."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..host.arguments import add_import, program
from ..resources import CONFIGS, TINY_CONFIG
from .arguments import KNOWS, parse_seeds
from .engine import add_engine

EXAMPLES = """examples:
  pullback compare --prompts "a red cube; a blue cone" --seeds 0,1 --dry-run
  pullback compare --prompts configs/compare/tiny-12.txt --methods pullback,sds --budget nfe=480
  pullback compare --world shapes --methods pullback,sds
  pullback compare --prompts prompts.txt --on ray --with address=auto --workers 8

The same command again goes on where it was stopped, and helps while it runs elsewhere. Five runs of a method at least
make an interval."""


def add_compare(commands: Any) -> None:
    """Adds both commands to an argparse's sub-commands."""
    compare = commands.add_parser(
        "compare",
        help="compare methods on your prompts: runs, measures, a report",
        epilog=f"{EXAMPLES}\n\n{KNOWS}",
    )
    compare.add_argument(
        "--config",
        type=Path,
        default=TINY_CONFIG,
        help="base config; a method changes its guidance (default the shipped pullback-nerf-tiny.yaml)",
    )
    shipped = ", ".join(sorted(path.stem for path in (CONFIGS / "compare" / "methods").glob("*.yaml")))
    compare.add_argument("--methods", help=f"names or YAML files, commas between (default all shipped: {shipped})")
    compare.add_argument("--prompts", help="a file with a prompt a line, or prompts with ; between")
    compare.add_argument("--world", help="an exact world in place of a model; evaluate worlds --help names them")
    compare.add_argument("--seeds", type=parse_seeds, default=[0, 1, 2, 3], help="0-3 or 0,2,5 (default 0-3)")
    compare.add_argument("--budget", default="nfe=960", help="a run: nfe=…, seconds=… or steps=… (default nfe=960)")
    compare.add_argument("--settings", type=Path, help="YAML {method: {key: value}} (default configs/compare/<config>)")
    compare.add_argument("--clip", type=Path, help="a folder with CLIP, for scores and features")
    compare.add_argument("--threestudio", type=Path, help="a checkout of threestudio; without, the bundled host")
    compare.add_argument(
        "--tune", dest="tuned", action="append", default=[], help="key=v,v: the best of a grid for every method (lr=…)"
    )
    compare.add_argument("--dry-run", action="store_true", help="print what the comparison would cost, and end")
    add_engine(compare, 2, "2")
    compare.add_argument("--out", type=Path, default=Path("outputs/compare"), help="folder of runs and report")
    add_import(compare)
    compare.add_argument("overrides", nargs="*", default=[], help="config overrides for every run, key=value")
    compare.set_defaults(run=run_compare)
    report = commands.add_parser(
        "report",
        help="make the page of a comparison again from its data",
        epilog="example:\n  pullback report outputs/compare",
    )
    report.add_argument("folder", type=Path, help="the --out of pullback compare")
    report.set_defaults(run=run_report)


def run_compare(args: argparse.Namespace) -> int:
    """Runs `compare` and says where the report is."""
    from ..evaluate.compare import exact, run
    from ..sweep.drive import Stopped

    command = shlex.join([*program(), *sys.argv[1:]])
    if args.world is not None and args.imports:
        raise UserError("--import has no use with --world, which has its own parts; leave one of them out")
    if args.world is None and args.prompts is None:
        raise UserError("--prompts is missing: give a file with a prompt a line, or an exact world by --world")
    try:
        page = (run if args.world is None else exact).compare(args, command)
    except Stopped as stopped:
        print(stopped, flush=True)
        return 130
    if page is not None:
        print(f"The report is {page}")
    return 0


def run_report(args: argparse.Namespace) -> int:
    """Rebuilds a comparison's page."""
    from ..evaluate.compare.report import page

    print(f"The report is {page.build(args.folder)}")
    return 0
