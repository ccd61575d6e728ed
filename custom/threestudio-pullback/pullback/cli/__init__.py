"""The `pullback` command and its sub-commands, such as `demo`, `launch`, `sweep` and `compare`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..errors import UserError, missing_package, unfit_package
from ..host.arguments import Parser, check_text
from ..version import __version__
from .compare import add_compare
from .demo import add_demo
from .evaluate import add_evaluate
from .export import add_export
from .gallery import add_gallery
from .launch import add_launch
from .plan import add_plan
from .sweep import add_sweep
from .texture import add_texture
from .view import add_command as add_view

EXAMPLES = """examples:
  pullback demo --prompt "a red cube"           an object in a minute or two on a CPU
  pullback export outputs/demo/a-red-cube-…     its mesh, with a texture
  pullback gallery outputs/demo                 all of them on a page, side by side
  pullback launch --config pullback-nerf.yaml --train system.prompt_processor.prompt="a red cube"
  pullback compare --prompts "a red cube; a blue cone" --seeds 0,1 --dry-run"""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(
        prog="pullback",
        description="Sample 3D objects from text by pulled-back diffusion.",
        epilog=f"{EXAMPLES}\n\nEach command has a --help of its own.",
    )
    parser.add_argument("--version", action="version", version=f"pullback {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for add in (
        add_demo,
        add_launch,
        add_texture,
        add_export,
        add_view,
        add_gallery,
        add_plan,
        add_compare,
        add_sweep,
        add_evaluate,
    ):
        add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; bad input gives one sentence on stderr and exit status 2."""
    try:
        argv = list(sys.argv[1:] if argv is None else argv)
        check_text(argv)
        args = build_parser().parse_args(argv)
        return args.run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except ModuleNotFoundError as error:
        if (sentence := missing_package(error)) is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
    except (RuntimeError, ImportError) as error:
        if (sentence := unfit_package(error)) is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
    except OSError as error:
        print(f"error: cannot use {error.filename or 'a file'}: {error.strerror}; check --out", file=sys.stderr)
    return 2
