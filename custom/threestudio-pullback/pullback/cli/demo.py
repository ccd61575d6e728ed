"""`pullback demo`: a NeRF from a prompt with the shipped model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..host.arguments import add_import, add_view, split_view
from ..output.file_names import slug
from ..resources import TINY_MV, TINY_MV_CONFIG
from .arguments import KNOWS


def add_demo(commands: Any) -> None:
    """Adds the command to an argparse's sub-commands."""
    demo = commands.add_parser(
        "demo",
        help="sample a NeRF from a prompt with the shipped model",
        epilog=f"""examples:
  pullback demo --prompt "a purple torus" --seed 1
  pullback demo --prompt "a cube with a red front, a green side, a blue back and a yellow side"

{KNOWS}

The demo's model sees four views at once, and also knows objects with four sides of different colours, in their order
round the object from the front to its left, and those with a mark on a side: "a red cube with a yellow back mark".""",
    )
    demo.add_argument("--prompt", default="a cube with a red front and a blue back", help="what to make")
    demo.add_argument("--seed", type=int, default=0, help="of the sample; another one gives another sample")
    demo.add_argument("--out", type=Path, default=Path("outputs"), help="folder; the run's is OUT/demo/PROMPT-SEED")
    add_import(demo)
    add_view(demo)
    demo.add_argument("overrides", nargs="*", default=[], help="config overrides, key=value, as in docs/running.md")
    demo.set_defaults(run=run_demo)


def run_demo(args: argparse.Namespace) -> int:
    """Samples with the demo's config; returns launch.py's exit status."""
    from ..host.launch import main as launch

    view, taken = split_view(args.view)
    tag = f"{slug(args.prompt)}-{args.seed}"
    common = [f"exp_root_dir={args.out}", "name=demo", f"tag={tag}", "use_timestamp=false"]
    common += [f"system.prompt_processor.pretrained_model_name_or_path={TINY_MV}"]
    common += [f"system.prompt_processor.prompt={args.prompt}", f"seed={args.seed}", *taken, *args.overrides]
    options = [word for name in args.imports for word in ("--import", name)]
    options += [] if view is None else ["--view", *filter(None, [view])]
    return launch(["--config", str(TINY_MV_CONFIG), *options, "--train", *common])
