"""`python launch.py --threestudio DIR --config … --train key=value …`: threestudio at DIR, on a CPU."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import re
import runpy
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from ..errors import UserError
from ..host import several
from ..host.arguments import ACTIONS, Parser, add_import, command
from ..host.parts import load_own
from ..resources import config_remedy, find

EXTENSION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
_REQUIREMENTS = "pip install -r requirements/threestudio-today.txt"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs DIR/launch.py with the arguments other than --threestudio and --import, with stand-ins for what needs CUDA.

    Relative paths are relative to DIR, as in threestudio; those of --config and resume= may also be relative to the
    caller's working folder. --gpu 0,1 means two processes, and so does torchrun.

    Args:
        argv: the arguments; by default those of the process.

    Returns:
        The exit status: 0 done; 2 the user can mend it, and one line on stderr says how. A fault of the run is raised.
    """
    parser = Parser(prog="launch.py", add_help=False, allow_abbrev=False)
    parser.add_argument("--threestudio", required=True)
    add_import(parser)
    rest = list(sys.argv[1:] if argv is None else argv)
    try:
        own, rest = parser.parse_known_args(rest)
        root = check(own.threestudio)
        count, started = len(_option(rest, "--gpu").split(",")), several.launched()
        if count > 1 and started == 1:
            return several.start(command(sys.argv[1:] if argv is None else argv), count)
        if started > 1:  # all write to one folder, and begin at different times
            rest = [*rest, "use_timestamp=false"]
        if "--typecheck" in rest:  # it acts when modules are imported, here before launch.py
            raise UserError("--typecheck has no effect with --threestudio; leave it out")
        if "--verbose" not in rest:
            _quieten()
        rest = absolute(rest)
        _check_config(rest, root)
        if own.imports:
            sys.path.append(os.getcwd())  # they may lie there
        os.chdir(root)
        sys.path.insert(0, root)
        lines = _install()
        threestudio = importlib.import_module("threestudio")
        threestudio.info(f"threestudio {threestudio.__version__} of {root}, on the CPU")
        for line in lines:
            threestudio.info(f"stand-in for {line}")
        load_own(own.imports)
        script = os.path.join(root, "launch.py")  # a relative path would not do for child processes
        sys.argv = [script, *rest]
        runpy.run_path(script, run_name="__main__")
        return 0
    except UserError as e:
        if "--verbose" in rest:
            traceback.print_exc()
        print("error: " + re.sub(r"\s+", " ", str(e)), file=sys.stderr)
        return 2


def check(root: str) -> str:
    """The folder of threestudio as an absolute path.

    Raises:
        UserError: no checkout of threestudio, or one without this extension.
    """
    path = os.path.abspath(os.path.expanduser(root))
    for name in ("launch.py", os.path.join("threestudio", "__init__.py")):
        if not os.path.isfile(os.path.join(path, name)):
            raise UserError(f"--threestudio {root} is no checkout of threestudio: it has no {name}; name its folder")
    link = os.path.join(path, "custom", os.path.basename(EXTENSION))
    if os.path.realpath(link) != EXTENSION:
        wrong = "is another copy of this extension" if os.path.exists(link) else "is missing"
        raise UserError(f"{link} {wrong}; link this one there: ./install.sh --threestudio {root}")
    return path


def absolute(argv: Sequence[str]) -> list[str]:
    """The arguments, in which --config and resume= are absolute where they exist here, or are shipped configs."""
    changed = list(argv)
    for i, arg in enumerate(changed):
        key, equals, value = arg.partition("=")
        if key in ("--config", "resume") and equals and os.path.exists(find(value)):
            changed[i] = f"{key}={os.path.abspath(find(value))}"
        elif i and changed[i - 1] == "--config" and os.path.exists(find(arg)):
            changed[i] = os.path.abspath(find(arg))
    return changed


def _check_config(argv: Sequence[str], root: str) -> None:
    path = _option(argv, "--config")
    if path and not os.path.exists(os.path.join(root, path)):
        raise UserError(f"--config {path} is neither here nor in {root}; {config_remedy()}")
    action = next((name for name in ACTIONS if f"--{name}" in argv), "train")
    if path and action != "train":
        from omegaconf import OmegaConf

        from ..host.actions import check_source
        from ..host.config import read_yaml

        keys = ("resume=", "system.weights=", "system.geometry.weights=")
        given = OmegaConf.from_dotlist([word for word in argv if word.startswith(keys)])
        written: Any = OmegaConf.to_container(OmegaConf.merge(read_yaml(os.path.join(root, path)), given))
        check_source(action, path, written)


def _option(argv: Sequence[str], name: str) -> str:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(name, default="", dest="value")
    return parser.parse_known_args(argv)[0].value


def _quieten() -> None:
    """Hides the warnings of newer packages about threestudio's files, which are many and not the user's concern."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="threestudio")
    for message in ("register_new_resolver", "pkg_resources is deprecated", "`isinstance\\(treespec"):
        warnings.filterwarnings("ignore", message=message)


def _install() -> list[str]:
    try:
        _check_libigl()
        from .install import install

        return install()
    except ModuleNotFoundError as e:
        raise UserError(f"threestudio needs the package '{e.name}', which is missing; run: {_REQUIREMENTS}") from e


def _check_libigl() -> None:
    igl = importlib.import_module("igl")
    if not hasattr(igl, "fast_winding_number_for_meshes"):
        version = importlib.metadata.version("libigl")
        raise UserError(
            f"threestudio needs igl.fast_winding_number_for_meshes, which libigl {version} has not; "
            "run: pip install libigl==2.5.1"
        )
