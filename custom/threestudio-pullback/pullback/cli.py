"""The `pullback` command: `demo` and `evaluate`."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .errors import UserError

ROOT = Path(__file__).resolve().parents[3]
TINY_CONFIG = ROOT / "configs" / "pullback-nerf-tiny.yaml"
TINY_MODEL = ROOT / "custom" / "threestudio-pullback" / "assets" / "tiny-sd"


def parse_seeds(text: str) -> list[int]:
    """ "0-3" or "0,2,5" as a list of integers."""
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    seeds = list(range(int(match[1]), int(match[2]) + 1)) if match else []
    if re.fullmatch(r"\d+(,\d+)*", text):
        seeds = [int(part) for part in text.split(",")]
    if not seeds:
        raise argparse.ArgumentTypeError(f"seeds are written 0-3 or 0,2,5, not {text!r}")
    return seeds


def parse_scales(text: str) -> list[float]:
    """ "1,3" as a list of guidance scales."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"guidance scales are written 1,3, not {text!r}") from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """The command line: demo, evaluate prompts, worlds, diversity, model."""
    parser = _Parser(prog="pullback", description="Sample 3D objects from text by pulled-back diffusion.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    demo = commands.add_parser("demo", help="sample a NeRF from a prompt with the shipped model")
    demo.add_argument("--prompt", default="a cube with a red front and a blue back")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--out", type=Path, default=Path("outputs"))
    demo.add_argument("overrides", nargs="*", help="config overrides, key=value")
    demo.set_defaults(run=run_demo)

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
        help="worlds or groups of them, commas between: all, gauss, plane, scenes (default shapes,two-tone)",
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
    return parser


def run_demo(args: argparse.Namespace) -> int:
    """Trains, tests and exports the demo's config; the exit status is launch.py's."""
    from .host.launch import main as launch

    tag = f"{re.sub(r'[^A-Za-z0-9]+', '_', args.prompt).strip('_')}-{args.seed}"
    common = [f"exp_root_dir={args.out}", "name=demo", f"tag={tag}", "use_timestamp=false"]
    common += [f"system.prompt_processor.pretrained_model_name_or_path={TINY_MODEL}"]
    common += [f"system.prompt_processor.prompt={args.prompt}", f"seed={args.seed}", *args.overrides]
    start = time.time()
    status = launch(["--config", str(TINY_CONFIG), "--train", *common])
    if status:
        return status
    folder = args.out / "demo" / tag
    checkpoint = folder / "ckpts" / "last.ckpt"
    parsed = str(folder / "configs" / "parsed.yaml")
    export = ["--export", f"resume={checkpoint}", "use_timestamp=false", "system.exporter.fmt=glb"]
    status = launch(["--config", parsed, *export])
    if status:
        return status
    print(f"\n{args.prompt!r}, made in {time.time() - start:.0f} s. Look at:")
    saved = folder / "save"
    for kind, pattern in (
        ("turntable", "*-test.mp4"),
        ("views", "*-grid.png"),
        ("as it went", "*-val.png"),
        ("mesh", "*-export/*"),
    ):
        found = sorted(saved.glob(pattern), key=lambda p: p.stat().st_mtime)
        if found:
            print(f"  {kind:10s} {found[-1]}")
    return 0


def run_prompts(args: argparse.Namespace) -> int:
    """Runs `evaluate prompts` and prints its table."""
    from .evaluate import prompts

    if not args.config.is_file():
        raise UserError(f"--config {args.config} is not there; give a config file")
    if not 1 <= args.prompts <= len(prompts.OBJECTS) or args.workers < 1:
        raise UserError(f"--prompts must be 1 to {len(prompts.OBJECTS)} and --workers at least 1")
    rows = prompts.evaluate(
        args.config, args.out, args.seeds, prompts.OBJECTS[: args.prompts], args.overrides, args.workers
    )
    print(prompts.table(rows))
    return 0


def run_worlds(args: argparse.Namespace) -> int:
    """Runs `evaluate worlds` and prints its report."""
    from .evaluate import known

    if args.workers < 1:
        raise UserError(f"--workers must be at least 1, not {args.workers}")
    methods = args.method or ["pullback"]
    print(known.evaluate(known.expand(args.world), methods, args.seeds, args.out, args.workers))
    print(f"written to {args.out / 'worlds.md'}")
    return 0


def run_diversity(args: argparse.Namespace) -> int:
    """Runs `evaluate diversity` and prints its report."""
    from .evaluate import diversity

    if args.workers < 1 or args.pictures < 1:
        raise UserError("--workers and --pictures must be at least 1")
    methods = args.method or ["pullback"]
    print(diversity.evaluate(args.model, args.prompts, methods, args.seeds, args.pictures, args.out, args.workers))
    print(f"written to {args.out / 'diversity.md'}")
    return 0


def run_model(args: argparse.Namespace) -> int:
    """Runs `evaluate model`."""
    from .evaluate import model

    if args.samples < 1:
        raise UserError(f"--samples must be at least 1, not {args.samples}")
    model.evaluate(args.model, args.scales, args.samples, args.seed, args.out)
    print(f"written to {args.out / 'model.json'}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; bad input is one sentence on stderr and exit status 2."""
    try:
        args = build_parser().parse_args(argv)
        return args.run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: cannot use {error.filename or 'a file'}: {error.strerror}; check --out", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
