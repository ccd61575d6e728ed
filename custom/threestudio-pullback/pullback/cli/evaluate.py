"""`pullback evaluate`: prompts, worlds, diversity, model, images."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..resources import TINY_CONFIG, TINY_MODEL, config_remedy, find
from .arguments import KNOWS, at_least, parse_scales, parse_seed, parse_seeds

CORES = os.cpu_count() or 1
METHOD_HELP = "'NAME key=value …', may be repeated (default pullback); NAME is"
# said here since their tables need PyTorch, which --help does without; a test holds them against it
METHODS = "pullback, sds, sjc, vsd, sdi, multidiffusion or perfect"
WORLDS = """Worlds: gauss-square, gauss-tall, gauss-stiff, gauss-large, gauss-texture (together gauss); mixture, rings
(plane); shapes, weighted-shapes, two-tone, weighted-two-tone, crowd, badge (scenes); each of the scenes with joint-
before it, and joint-pairs (joint); panorama, panorama-grid (panoramas)."""
SETTINGS = "hidden, layers, omega, rays, steps, lr, lr_end, levels, sigma_min, rho, rounds, distil_steps, distil_lr"


def add_evaluate(commands: Any) -> None:
    """Adds the command to an argparse's sub-commands."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure against known answers",
        epilog="examples:\n  pullback evaluate worlds --world shapes --method pullback --method sds\n"
        "  pullback evaluate prompts --prompts 2 --seeds 0",
    )
    kinds = evaluate.add_subparsers(dest="kind", required=True, metavar="what")

    prompts = _kind(
        kinds, "prompts", run_prompts, "12 prompts to NeRFs, each compared with the exact object that it names",
        "--prompts 2 --seeds 0",
    )  # fmt: skip
    text = "YAML file (default the shipped pullback-nerf-tiny.yaml)"
    prompts.add_argument("--config", type=Path, default=TINY_CONFIG, help=text)
    _add_seeds(prompts, 2)
    prompts.add_argument("--prompts", type=int, default=12, metavar="N", help="the first N of the 12 prompts")
    _add_workers(prompts, 2)
    prompts.add_argument("overrides", nargs="*", default=[], help="config overrides, key=value")

    worlds = _kind(
        kinds, "worlds", run_worlds, "sample worlds whose right answer is known; a table of methods",
        "--world shapes --method pullback --method sds --seeds 0-7",
    )  # fmt: skip
    worlds.add_argument(
        "--world",
        default="shapes,two-tone",
        help="worlds or groups of them, see below, or all; commas between (default shapes,two-tone)",
    )
    worlds.add_argument(
        "--denoiser",
        choices=("single", "joint"),
        default="single",
        help="joint: it sees groups of views (default single)",
    )
    text = "what the worlds of scenes sample: implicit-sdf, point-set or tetrahedra-sdf-grid (default: a voxel field)"
    worlds.add_argument("--diffrep", default="", metavar="NAME", help=text)
    worlds.add_argument("--method", action="append", help=f"{METHOD_HELP} {METHODS}")
    worlds.epilog = f"{WORLDS}\n\n{worlds.epilog}"
    _add_seeds(worlds, 16)
    _add_workers(worlds, CORES)

    diversity = _kind(
        kinds, "diversity", run_diversity, "NeRFs of the shipped model against its own pictures; two colours",
        "--prompts partial --method sds --seeds 0-7", True,
    )  # fmt: skip
    text = "partial, two-coloured or prompts of these, commas between (default partial)"
    diversity.add_argument("--prompts", default="partial", help=text)
    diversity.add_argument("--method", action="append", help=f"{METHOD_HELP} pullback or sds")
    _add_seeds(diversity, 64)
    diversity.add_argument(
        "--pictures", type=at_least(1), default=256, help="of the model, per partial prompt (default 256)"
    )
    _add_workers(diversity, CORES)

    model = _kind(
        kinds, "model", run_model, "the shipped model's figures: autoencoder, captions, histograms",
        "--samples 16 --scales 2.5", True,
    )  # fmt: skip
    scales = "guidance scales (default 1,2.5,6,8)"
    model.add_argument("--scales", type=parse_scales, default=[1.0, 2.5, 6.0, 8.0], help=scales)
    model.add_argument("--samples", type=at_least(1), default=256, help="pictures of a scale")
    model.add_argument("--seed", type=parse_seed, default=0, help="of the pictures")

    images = _kind(
        kinds, "images", run_images, "SIREN images against the model's own samples from the same noise",
        "--samples 16 --few 0 --ablated 0 steps=20", True,
    )  # fmt: skip
    add = images.add_argument
    add("--samples", type=int, default=256, help="of ours and of the model's own, a scale (default 256)")
    add("--scales", type=parse_scales, default=[1.0, 2.5], help="their guidance scales (default 1,2.5)")
    add("--few", type=int, default=64, help="samples of every method in the curves (default 64)")
    add("--curve", type=parse_scales, default=[0.0, 1.0, 3.0, 7.5, 15.0], help="their scales (default 0,1,3,7.5,15)")
    add("--ablated", type=int, default=8, help="samples of each ablation (default 8; 0: none)")
    add("--seed", type=parse_seed, default=0, help="of the samples")
    add("--workers", type=int, default=2, help="processes (default 2)")
    add("overrides", nargs="*", default=[], help=f"settings, key=value: {SETTINGS}")


def _kind(
    kinds: Any, name: str, run: Callable[[argparse.Namespace], int], text: str, example: str, model: bool = False
) -> argparse.ArgumentParser:
    """The parser of `evaluate NAME`, with its --out, an example and, for a command that takes one, its --model."""
    knows = "" if name == "worlds" else f"\n\n{KNOWS}"
    parser = kinds.add_parser(name, help=text, epilog=f"example:\n  pullback evaluate {name} {example}{knows}")
    parser.add_argument("--out", type=Path, default=Path(f"outputs/evaluate-{name}"), help="folder of the results")
    if model:
        parser.add_argument("--model", default=str(TINY_MODEL), help="a model's folder (default the shipped one)")
    parser.set_defaults(run=run)
    return parser


def _add_seeds(parser: Any, count: int) -> None:
    text = f"0-3 or 0,2,5 (default 0-{count - 1})"
    parser.add_argument("--seeds", type=parse_seeds, default=list(range(count)), help=text)


def _add_workers(parser: Any, count: int) -> None:
    parser.add_argument("--workers", type=at_least(1), default=count, help=f"runs at a time (default {count})")


def run_prompts(args: argparse.Namespace) -> int:
    """Runs `evaluate prompts` and prints its table."""
    from ..evaluate import prompts
    from ..evaluate.studio.held_out import OBJECTS

    if not os.path.isfile(find(args.config)):
        raise UserError(f"--config {args.config} is not there; {config_remedy()}")
    if not 1 <= args.prompts <= len(OBJECTS):
        raise UserError(f"--prompts must be 1 to {len(OBJECTS)}, not {args.prompts}")
    rows = prompts.evaluate(args.config, args.out, args.seeds, OBJECTS[: args.prompts], args.overrides, args.workers)
    print(prompts.table(rows))
    return 0


def run_worlds(args: argparse.Namespace) -> int:
    """Runs `evaluate worlds` and prints its report."""
    from ..evaluate import exact_worlds

    methods = args.method or ["pullback"]
    print(
        exact_worlds.evaluate(
            exact_worlds.expand(args.world, args.denoiser, args.diffrep), methods, args.seeds, args.out, args.workers
        )
    )
    print(f"written to {args.out / 'worlds.md'}")
    return 0


def run_diversity(args: argparse.Namespace) -> int:
    """Runs `evaluate diversity` and prints its report."""
    from ..evaluate import diversity

    methods = args.method or ["pullback"]
    print(diversity.evaluate(args.model, args.prompts, methods, args.seeds, args.pictures, args.out, args.workers))
    print(f"written to {args.out / 'diversity.md'}")
    return 0


def run_model(args: argparse.Namespace) -> int:
    """Runs `evaluate model`."""
    from ..evaluate.studio import model

    model.evaluate(args.model, args.scales, args.samples, args.seed, args.out)
    print(f"written to {args.out / 'model.json'}")
    return 0


def run_images(args: argparse.Namespace) -> int:
    """Runs `evaluate images` and prints its report."""
    from ..evaluate import images

    if min(args.samples, args.workers) < 1 or min(args.few, args.ablated) < 0:
        raise UserError("--samples and --workers must be at least 1, --few and --ablated at least 0")
    curve = args.curve if args.few else []
    extent = images.Extent(args.samples, args.scales, args.few, curve, args.ablated)
    settings = images.parse_settings(args.overrides)
    print(images.evaluate(args.model, settings, args.seed, extent, args.out, args.workers))
    print(f"written to {args.out / 'images.md'}")
    return 0
