"""`pullback evaluate`: prompts, worlds, diversity, model, images."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..resources import TINY_CONFIG, TINY_MODEL, find
from .arguments import parse_scales, parse_seeds
from .images import add_images


def add_evaluate(commands: Any) -> None:
    """Adds the command to an argparse's sub-commands."""
    evaluate = commands.add_parser("evaluate", help="measure against known answers")
    kinds = evaluate.add_subparsers(dest="kind", required=True, metavar="what")

    prompts = kinds.add_parser("prompts", help="12 prompts to NeRFs, each held against the exact object it names")
    prompts.add_argument("--config", type=Path, default=TINY_CONFIG)
    prompts.add_argument("--seeds", type=parse_seeds, default=[0, 1], help="0-3 or 0,2,5 (default 0,1)")
    prompts.add_argument("--prompts", type=int, default=12, help="the first N of the 12 prompts")
    prompts.add_argument("--workers", type=int, default=2, help="runs at a time (default 2)")
    prompts.add_argument("--out", type=Path, default=Path("outputs/evaluate-prompts"))
    prompts.add_argument("overrides", nargs="*", help="config overrides, key=value")
    prompts.set_defaults(run=run_prompts)

    worlds = kinds.add_parser("worlds", help="sample worlds whose right answer is known; a table of methods")
    worlds.add_argument(
        "--world",
        default="shapes,two-tone",
        help="worlds or groups of them, commas between: all, gauss, plane, scenes, panoramas (default shapes,two-tone)",
    )
    worlds.add_argument("--method", action="append", help="'NAME key=value …', may be repeated (default pullback)")
    worlds.add_argument("--seeds", type=parse_seeds, default=list(range(16)), help="0-63 or 0,2,5 (default 0-15)")
    worlds.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    worlds.add_argument("--out", type=Path, default=Path("outputs/evaluate-worlds"))
    worlds.set_defaults(run=run_worlds)

    diversity = kinds.add_parser("diversity", help="NeRFs of the shipped model against its own pictures; two colours")
    diversity.add_argument("--model", default=str(TINY_MODEL))
    diversity.add_argument("--prompts", default="partial", help="partial, two-coloured, or both with a comma")
    diversity.add_argument("--method", action="append", help="'NAME key=value …', may be repeated (default pullback)")
    diversity.add_argument("--seeds", type=parse_seeds, default=list(range(64)), help="0-3 or 0,2,5 (default 0-63)")
    diversity.add_argument("--pictures", type=int, default=256, help="of the model, per partial prompt (default 256)")
    diversity.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    diversity.add_argument("--out", type=Path, default=Path("outputs/evaluate-diversity"))
    diversity.set_defaults(run=run_diversity)

    model = kinds.add_parser("model", help="the shipped model's figures: autoencoder, captions, histograms")
    model.add_argument("--model", default=str(TINY_MODEL))
    model.add_argument("--scales", type=parse_scales, default=[1.0, 2.5, 6.0, 8.0])
    model.add_argument("--samples", type=int, default=256)
    model.add_argument("--seed", type=int, default=0)
    model.add_argument("--out", type=Path, default=Path("outputs/evaluate-model"))
    model.set_defaults(run=run_model)
    add_images(kinds)


def run_prompts(args: argparse.Namespace) -> int:
    """Runs `evaluate prompts` and prints its table."""
    from ..evaluate import prompts
    from ..evaluate.studio.held_out import OBJECTS

    if not find(args.config).is_file():
        raise UserError(f"--config {args.config} is not there; give a config file")
    if not 1 <= args.prompts <= len(OBJECTS) or args.workers < 1:
        raise UserError(f"--prompts must be 1 to {len(OBJECTS)} and --workers at least 1")
    rows = prompts.evaluate(args.config, args.out, args.seeds, OBJECTS[: args.prompts], args.overrides, args.workers)
    print(prompts.table(rows))
    return 0


def run_worlds(args: argparse.Namespace) -> int:
    """Runs `evaluate worlds` and prints its report."""
    from ..evaluate import exact_worlds

    if args.workers < 1:
        raise UserError(f"--workers must be at least 1, not {args.workers}")
    methods = args.method or ["pullback"]
    print(exact_worlds.evaluate(exact_worlds.expand(args.world), methods, args.seeds, args.out, args.workers))
    print(f"written to {args.out / 'worlds.md'}")
    return 0


def run_diversity(args: argparse.Namespace) -> int:
    """Runs `evaluate diversity` and prints its report."""
    from ..evaluate import diversity

    if args.workers < 1 or args.pictures < 1:
        raise UserError("--workers and --pictures must be at least 1")
    methods = args.method or ["pullback"]
    print(diversity.evaluate(args.model, args.prompts, methods, args.seeds, args.pictures, args.out, args.workers))
    print(f"written to {args.out / 'diversity.md'}")
    return 0


def run_model(args: argparse.Namespace) -> int:
    """Runs `evaluate model`."""
    from ..evaluate.studio import model

    if args.samples < 1:
        raise UserError(f"--samples must be at least 1, not {args.samples}")
    model.evaluate(args.model, args.scales, args.samples, args.seed, args.out)
    print(f"written to {args.out / 'model.json'}")
    return 0
