"""The command line of a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from ..errors import UserError


class Parser(argparse.ArgumentParser):
    """Bad usage is a UserError."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def add_import(parser: argparse.ArgumentParser) -> None:
    """Adds `--import MODULE`, the modules of which are `imports`."""
    parser.add_argument(
        "--import", dest="imports", metavar="MODULE", action="append", default=[],
        help="a module that registers parts of your own; may be repeated",
    )  # fmt: skip


def parse_args(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and the key=value overrides on it."""
    parser = Parser(
        prog="launch.py",
        description="Train, validate, test or export what a config describes.",
        epilog="With --threestudio DIR, the threestudio of that folder runs instead of the bundled host, on a CPU.",
    )
    parser.add_argument("--config", required=True, help="YAML file")
    parser.add_argument("--gpu", default="0", help="number of the GPU; ignored where CUDA_VISIBLE_DEVICES is set")
    add_import(parser)
    group = parser.add_mutually_exclusive_group(required=True)
    for action in ("train", "validate", "test", "export"):
        group.add_argument(f"--{action}", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="log more, and show tracebacks")
    args, extras = parser.parse_known_args(argv)
    if not args.gpu.isdigit():
        raise UserError(f"--gpu takes the number of one GPU, not '{args.gpu}'")
    return args, extras
