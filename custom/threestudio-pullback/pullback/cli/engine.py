"""Where a command's runs are made: the arguments of `sweep` and `compare` that choose an engine."""

from __future__ import annotations

import argparse

from .arguments import at_least


def add_engine(parser: argparse.ArgumentParser, workers: int | None, usual: str) -> None:
    """Adds --on, --with, --workers and --expire.

    Args:
        parser: Of the command.
        workers: The default of --workers; None for the engine's own.
        usual: The same for a reader.
    """
    parser.add_argument("--on", default="local", metavar="ENGINE", help="local, ray or slurm (default local)")
    parser.add_argument(
        "--with", dest="options", action="append", default=[], metavar="KEY=VALUE",
        help="an option of the engine, such as address=auto of ray; may be repeated",
    )  # fmt: skip
    parser.add_argument("--workers", type=at_least(1), default=workers, help=f"runs at a time (default {usual})")
    parser.add_argument(
        "--expire", type=_seconds, default=120.0, help="seconds until a silent worker's run is another's"
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"must be seconds from 1 to 86400, not {text!r}")
    return value
