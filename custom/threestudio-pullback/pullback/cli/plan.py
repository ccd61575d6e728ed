"""`pullback plan`: what a run would cost, without running it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..evaluate.plan.cards import CARDS
from ..host.arguments import add_import


def add_plan(commands: Any) -> None:
    """Adds the command to an argparse's sub-commands."""
    plan = commands.add_parser(
        "plan",
        help="say what a run would cost: FLOPs, network calls, memory, time on a card",
        epilog="examples:\n  pullback plan --config pullback-nerf-tiny.yaml\n"
        "  pullback plan --config pullback-nerf.yaml --model-config sd-1.5 --card rtx4090 system.guidance.levels=30",
    )
    plan.add_argument("--config", type=Path, required=True, help="YAML file, or the name of a shipped one")
    plan.add_argument("--model-config", metavar="FOLDER", help="the model's configs: a folder, or sd-1.5, sd-2.1, sdxl")
    plan.add_argument(
        "--card", default="h100", metavar="CARD", choices=CARDS, help=f"whose time is told: {', '.join(CARDS)}"
    )
    plan.add_argument("--tflops", type=float, help="TFLOP/s that networks reach, in place of a share of the card's")
    add_import(plan)
    plan.add_argument("overrides", nargs="*", default=[], help="config overrides, key=value")
    plan.set_defaults(run=run_plan)


def run_plan(args: argparse.Namespace) -> int:
    """Prints the plan."""
    from ..evaluate.plan.report import plan

    if args.tflops is not None and not 0 < args.tflops < float("inf"):
        raise UserError(f"--tflops must be a number above 0, not {args.tflops:g}")
    print(plan(args))
    return 0
