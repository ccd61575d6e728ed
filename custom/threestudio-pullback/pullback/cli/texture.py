"""`pullback texture`: textures for a mesh, sampled."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..host.arguments import add_import
from ..resources import TINY_MV, TINY_MV_CONFIG
from .arguments import KNOWS, parse_seeds

EXAMPLES = f"""examples:
  pullback texture cube.glb --prompt "a cube with a red front and a blue back" --seeds 0-3 --out outputs/cube
  pullback texture chair.obj --prompt "a wooden chair" --config pullback-nerf.yaml --texels 1024 --out outputs/chair

Model, noise levels, noise of the views, cameras and background are those of the config; overrides work as in
docs/running.md. The mesh is fitted to what the cameras see; glb and obj have y up and +z in front, ply z up.

{KNOWS}"""


def add_texture(commands: Any) -> None:
    """Adds the command to an argparse's sub-commands."""
    parser = commands.add_parser("texture", help="sample textures for a mesh", epilog=EXAMPLES)
    parser.add_argument("mesh", type=Path, help="a glb, obj or ply; only this file is read, no material of its own")
    parser.add_argument("--prompt", required=True, help="what it is to look like")
    parser.add_argument("--seeds", type=parse_seeds, default=[0], help="a texture for each: 0-3 or 0,2,5 (default 0)")
    parser.add_argument("--out", type=Path, default=Path("outputs/texture"), help="folder of the files")
    parser.add_argument(
        "--config", type=Path, help="YAML file, or a shipped one's name (default pullback-nerf-tiny-mv.yaml)"
    )
    parser.add_argument(
        "--controlnet", type=Path, metavar="FOLDER", help="a depth ControlNet for the model, in diffusers' format"
    )
    parser.add_argument(
        "--texels", type=int, default=0, help="a side of the texture (default: twice a render's pixels)"
    )
    parser.add_argument("--new-charts", action="store_true", help="cut the mesh anew, also where it can keep its own")
    add_import(parser)
    parser.add_argument("overrides", nargs="*", default=[], help="config overrides, key=value")
    parser.set_defaults(run=run_texture)


def run_texture(args: argparse.Namespace) -> int:
    """Samples the textures and says where they are."""
    from ..texturing.run import Request, run

    if args.texels and not 8 <= args.texels <= 8192:
        raise UserError(f"--texels must lie between 8 and 8192, not {args.texels}")
    model = f"system.prompt_processor.pretrained_model_name_or_path={TINY_MV}"
    overrides = args.overrides if args.config else [model, *args.overrides]
    page = run(
        Request(args.mesh, args.prompt, args.seeds, args.out, args.config or TINY_MV_CONFIG, overrides, args.imports,
                args.controlnet, args.texels, args.new_charts),
        lambda line: print(line, flush=True),
    )  # fmt: skip
    print(f"Look at:\n  page       {page}")
    return 0
