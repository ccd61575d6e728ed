"""`pullback launch`: launch.py's command line, on the bundled host or, with --threestudio DIR, in threestudio."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


def add_launch(commands: Any) -> None:
    """Adds the command to an argparse's sub-commands; its options are launch.py's."""
    launch = commands.add_parser("launch", help="run a config, as launch.py does", add_help=False, prefix_chars="\0")
    launch.add_argument("words", nargs=argparse.REMAINDER)
    launch.set_defaults(run=lambda args: main(args.words))


def main(words: Sequence[str]) -> int:
    """Runs launch.py's command line; returns its exit status."""
    if any(word.partition("=")[0] == "--threestudio" for word in words):
        from ..cuda_standins.launch import main as run
    else:
        from ..host.launch import main as run
    return run(words)
