"""`pullback export`: a run's mesh, by the config and the checkpoint of its folder."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from ..errors import UserError
from ..host.arguments import add_import

TEXTURED = ("glb", "obj-mtl")
FORMATS = (*TEXTURED, "obj", "ply")
EXAMPLES = """examples:
  pullback export outputs/demo/a-red-cube-…
  pullback export RUN --no-texture
  pullback export RUN --format ply system.exporter.faces=5000

It is launch.py --export with the config and the last checkpoint of the run. docs/running.md lists the overrides."""


def add_export(commands: Any) -> None:
    """Adds the command to an argparse's sub-commands."""
    export = commands.add_parser("export", help="write the mesh of a run", epilog=EXAMPLES)
    export.add_argument("folder", help="of the run, as its first line names it; or a checkpoint in it")
    export.add_argument("--format", choices=FORMATS, default="glb", help="of the file")
    export.add_argument(
        "--no-texture",
        action="store_true",
        help="colours at the vertices: made in a second, where a texture takes many",
    )
    add_import(export)
    export.add_argument("overrides", nargs="*", default=[], help="config overrides, key=value")
    export.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> int:
    """Exports the mesh; returns launch.py's exit status."""
    if args.no_texture and args.format == "obj-mtl":
        raise UserError("--no-texture has no use with --format obj-mtl; use obj, whose colours are at the vertices")
    textured = args.format in TEXTURED and not args.no_texture
    settings = [f"system.exporter.fmt={args.format}", f"system.exporter.save_uv={str(textured).lower()}"]
    return export(args.folder, args.imports, [*settings, *args.overrides])


def export(run: str, imports: Sequence[str], overrides: Sequence[str]) -> int:
    """Exports the mesh of a run.

    Args:
        run: The run's folder, or a checkpoint in it.
        imports: Modules that register parts of a user.
        overrides: Config overrides, key=value.

    Returns:
        launch.py's exit status.

    Raises:
        UserError: It is no folder of a run, or the run has no checkpoint yet.
    """
    from ..host.launch import main as launch

    checkpoint = run if os.path.isfile(run) else os.path.join(run, "ckpts", "last.ckpt")
    folder = os.path.dirname(os.path.dirname(checkpoint))
    config = os.path.join(folder, "configs", "parsed.yaml")
    if not os.path.isfile(config):
        raise UserError(f"{run} is no folder of a run: there is no {config}; give the folder that the run has named")
    if not os.path.isfile(checkpoint):
        raise UserError(f"{run} has no checkpoint yet: there is no {checkpoint}; wait for it, or let the run go on")
    options = [word for name in imports for word in ("--import", name)]
    return launch(["--config", config, *options, "--export", f"resume={checkpoint}", *overrides])
