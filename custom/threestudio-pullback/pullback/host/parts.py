"""Loads everything that a config can name: the host's parts, the adapters, and users' own parts."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

from ..errors import UserError, first_line

GROUP = "pullback.parts"
"""Entry points of installed packages; each names a module that registers parts when it is imported."""


def load_parts(imports: Sequence[str] = ()) -> None:
    """Fills the registry with the host's parts, the adapters, and what `load_own` finds."""
    load_shipped()
    load_own(imports)


def load_shipped() -> None:
    """Fills the registry with the host's parts and the adapters."""
    package = importlib.import_module("pullback.host")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    importlib.import_module("pullback.adapters._framework").load_adapters()


def load_own(imports: Sequence[str] = ()) -> None:
    """Imports the users' modules: those of the entry points, then those of `--import`.

    Args:
        imports: module names; a module may lie in the working folder.

    Raises:
        UserError: a module cannot be imported; the sentence names the entry point or the option.
    """
    for point in sorted(entry_points(group=GROUP)):
        package = point.dist.name if point.dist else "a package"
        _import(point.module, f"{package}, entry point '{point.name}' of {GROUP}", f"mend or uninstall {package}")
    if imports and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in imports:
        _import(name, f"--import {name}", "it must lie in this folder, on PYTHONPATH, or be installed")


def _import(name: str, what: str, remedy: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as e:  # whatever a user's module raises
        raise UserError(f"{what}: cannot import {name}: {type(e).__name__}: {first_line(e)}; {remedy}") from e
