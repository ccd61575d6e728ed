"""`pullback evaluate images`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..resources import TINY_MODEL
from .arguments import parse_scales


def add_images(kinds: Any) -> None:
    """Adds the command to those of `evaluate`."""
    images = kinds.add_parser("images", help="SIREN images against the model's own samples from the same noise")
    images.add_argument("--model", default=str(TINY_MODEL))
    images.add_argument(
        "--samples", type=int, default=256, help="of ours and of the model's own, a scale (default 256)"
    )
    images.add_argument("--scales", type=parse_scales, default=[1.0, 2.5], help="their guidance scales (default 1,2.5)")
    images.add_argument("--few", type=int, default=64, help="samples of every method in the curves (default 64)")
    images.add_argument(
        "--curve", type=parse_scales, default=[0.0, 1.0, 3.0, 7.5, 15.0], help="their scales (default 0,1,3,7.5,15)"
    )
    images.add_argument("--ablated", type=int, default=8, help="samples of each ablation (default 8; 0: none)")
    images.add_argument("--seed", type=int, default=0)
    images.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    images.add_argument("--out", type=Path, default=Path("outputs/evaluate-images"))
    images.add_argument("overrides", nargs="*", help="settings, key=value: hidden, omega, steps, levels, rounds, …")
    images.set_defaults(run=run_images)


def run_images(args: argparse.Namespace) -> int:
    """Runs `evaluate images` and prints its report."""
    from ..evaluate import images

    if min(args.samples, args.workers) < 1 or min(args.few, args.ablated) < 0:
        raise UserError("--samples and --workers must be at least 1, --few and --ablated at least 0")
    settings = images.parse_settings(args.overrides)
    curve = args.curve if args.few else []
    print(
        images.evaluate(
            args.model, settings, args.seed, args.samples, args.scales, args.few, curve, args.ablated, args.out,
            args.workers,
        )
    )  # fmt: skip
    print(f"written to {args.out / 'images.md'}")
    return 0
