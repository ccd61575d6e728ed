"""Whether the configs of a sweep can be run, before any worker begins; a process of its own does the imports."""

from __future__ import annotations

from typing import Any

from ..errors import UserError
from .folder import Folder
from .making import command
from .plan import Unit
from .process import server


def check(folder: Folder, units: list[Unit]) -> None:
    """Checks one unit of each variant.

    Raises:
        UserError: A config is wrong.
    """
    first = {unit.variant: unit for unit in reversed(units)}
    commands = [(folder.variants[unit.variant].label, command(folder, unit)) for unit in reversed(first.values())]
    context = server()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_check, args=(commands, theirs))
    process.start()
    theirs.close()
    try:
        sentence = ours.recv()
    except EOFError:
        sentence = None  # it was killed; a run will say more
    process.join()
    if sentence is not None:
        raise UserError(sentence)


def _check(commands: list[tuple[str, list[str]]], sender: Any) -> None:
    from ..host.run import Run

    for label, words in commands:
        try:
            Run(words).check()
        except UserError as error:
            sender.send(f"{label} does not run: {error}")
            return
    sender.send(None)
