"""The command line of a run: how it is read, and how one is printed so that it runs where it is pasted."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import UserError

KNOWS = """The shipped model knows six shapes (sphere, cube, cylinder, cone, torus, diamond) in six colours (red, green,
blue, yellow, purple, cyan): "a purple torus", "a cone with a green front and a purple back", or with shape or colour
left open, "a cube", "a blue object". Of other words it makes nothing sensible."""
ACTIONS = {
    "train": "sample or optimise, then render the test views; with resume= it goes on",
    "validate": "render the validation views of a checkpoint; needs resume=",
    "test": "render the test views and the turntable of a checkpoint; needs resume=",
    "export": "write the mesh of a checkpoint; needs resume=",
}
OVERRIDES = f"""key=value sets a key of the config, by its dotted name; lists and blocks are YAML, in quotes:
  system.prompt_processor.prompt="a red cube"   what to make; needed
  seed=1                                        another sample
  resume=RUN/ckpts/last.ckpt                    the checkpoint to go on from, to test or to export
  exp_root_dir=DIR, name=…, tag=…               where files go: DIR/NAME/TAG@TIME (default outputs/…)
  use_timestamp=false                           a folder without the time
  trainer.accelerator=cpu                       off the GPU
docs/running.md has the others. A run's own config is RUN/configs/parsed.yaml.

examples:
  launch.py --config pullback-nerf-tiny.yaml --train system.prompt_processor.prompt="a red cube"
  launch.py --config RUN/configs/parsed.yaml --train resume=RUN/ckpts/last.ckpt
  launch.py --config RUN/configs/parsed.yaml --export resume=RUN/ckpts/last.ckpt system.exporter.fmt=glb

{KNOWS}"""


class Help(argparse.RawDescriptionHelpFormatter):
    """Help with the default of every option that has one, and examples as they are written."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        unsaid = action.default is None or action.default in (argparse.SUPPRESS, []) or action.nargs == 0
        plain = unsaid or action.help is None or "default" in action.help
        return action.help if plain else f"{action.help} (default %(default)s)"


class Parser(argparse.ArgumentParser):
    """A parser that raises UserError for bad usage, instead of ending the process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"formatter_class": Help, **kwargs})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; overrides key=value may also follow options, where argparse takes them in one place only."""
        found, rest = self.parse_known_args(args, namespace)
        if rest and not (hasattr(found, "overrides") and all(re.match(r"[^-=][^=]*=", word) for word in rest)):
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        if rest:
            found.overrides = [*found.overrides, *rest]
        return found

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


def add_view(
    parser: argparse.ArgumentParser,
    what: str = "show the run in a browser as it samples: the field, its cameras, its curves",
) -> None:
    """Adds `--view [[HOST:]PORT]`; `view` is None without it, and "" where it has no value.

    Args:
        parser: Gets the option.
        what: It does, for its help.
    """
    parser.add_argument(
        "--view", nargs="?", const="", metavar="[HOST:]PORT",
        help=f"{what}; without a value at 127.0.0.1 and the first free port from 8080 on",
    )  # fmt: skip


def split_view(view: str | None) -> tuple[str | None, list[str]]:
    """The value of --view, and the override that argparse has taken for it, where one follows `--view` at once."""
    return ("", [view]) if view and "=" in view else (view, [])


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
        UserError: bad usage, or --gpu is no list of different numbers.
    """
    check_text(argv)
    name = "launch.py" if _is_script() else "pullback launch"
    parser = Parser(
        prog=name,
        usage=f"{name} --config FILE (--train | --validate | --test | --export) [key=value …]",
        description="Train, validate, test or export what a config describes.",
        epilog=OVERRIDES.replace("launch.py", name),
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML file, or the name of a shipped one")
    parser.add_argument(
        "--gpu",
        default="0",
        help="number of the GPU, or 0,1 for one sample on two; CUDA_VISIBLE_DEVICES goes before",
    )
    add_import(parser)
    add_view(parser)
    parser.add_argument(  # who starts the program looks for it first
        "--threestudio", metavar="DIR", help="run the threestudio of that folder, on a CPU, not the bundled host"
    )
    group = parser.add_mutually_exclusive_group(required=True)
    for action, meaning in ACTIONS.items():
        group.add_argument(f"--{action}", action="store_true", help=meaning)
    parser.add_argument("--verbose", action="store_true", help="log more, and show tracebacks")
    args, extras = parser.parse_known_args(argv)
    if args.threestudio is not None:
        raise UserError("--threestudio must be written out, and goes to launch.py or `pullback launch`")
    args.view, taken = split_view(args.view)
    extras = taken + extras
    numbers = args.gpu.split(",")
    if not all(number.isdigit() for number in numbers) or len(set(numbers)) < len(numbers):
        raise UserError(f"--gpu takes the number of a GPU, or different numbers such as 0,1, not '{args.gpu}'")
    return args, extras


def program() -> list[str]:
    """The words that start the `pullback` command by its path, or by that of the interpreter.

    So a command that is printed or saved runs in any shell, whatever PATH leads to there.
    """
    script = sys.argv[0]
    if os.path.basename(script) == "pullback" and os.path.dirname(script):
        return [os.path.abspath(script)]
    return [sys.executable, "-m", "pullback"]


def command(words: Sequence[str]) -> list[str]:
    """The words of the command that runs a command line of launch.py in the way this process was started.

    It starts with the interpreter and launch.py where launch.py, or another script, was run, and with `program()` and
    `launch` otherwise.
    """
    return [*([sys.executable, sys.argv[0]] if _is_script() else [*program(), "launch"]), *words]


def command_line(words: Sequence[str]) -> str:
    """`command` as it is typed in a shell."""
    return shlex.join(command(words))


def _is_script() -> bool:
    """Whether launch.py, or another script, was run, and not the `pullback` command."""
    return sys.argv[0].endswith(".py") and os.path.basename(sys.argv[0]) != "__main__.py"
