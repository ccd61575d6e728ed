"""The command line of a run: how it is read, and how one is printed so that it runs where it is pasted."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser that raises UserError for bad usage, instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError with argparse's message."""
        plain = re.sub(r"^argument (\S+): must", r"\1 must", message)
        raise UserError(f"{plain}; see {self.prog} --help")


def add_import(parser: argparse.ArgumentParser) -> None:
    """Adds `--import MODULE`, which may be repeated; the names are in the attribute `imports`, a list."""
    parser.add_argument(
        "--import", dest="imports", metavar="MODULE", action="append", default=[],
        help="a module that registers parts of your own; may be repeated",
    )  # fmt: skip


def check_text(argv: Sequence[str]) -> None:
    """Checks that a command line is text, which can be printed and written; UserError for bytes that are not UTF-8."""
    for word in argv:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(f"the command line has {word!a}, which is not UTF-8; write it in UTF-8") from None


def parse_args(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Reads a run's command line.

    Returns:
        The options, and the other words: overrides key=value.

    Raises:
        UserError: bad usage, or --gpu is not one number.
    """
    check_text(argv)
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


def command_line(words: Sequence[str]) -> str:
    """The shell command that runs a command line of launch.py in the way this process was started.

    It starts with `python launch.py` where launch.py, or another script, was run, and with `pullback launch`
    otherwise. A program that PATH does not lead to is written with its path.
    """
    script = sys.argv[0]
    if script.endswith(".py") and os.path.basename(script) != "__main__.py":
        start = [_written("python", sys.executable), script]
    elif os.path.basename(script) == "pullback":
        start = [_written("pullback", script), "launch"]
    else:
        start = [_written("python", sys.executable), "-m", "pullback", "launch"]
    return shlex.join([*start, *words])


def _written(name: str, program: str) -> str:
    """`name` where PATH leads to `program` by it, else `program`."""
    path = shutil.which(name)
    return name if path is not None and os.path.abspath(path) == os.path.abspath(program) else program
