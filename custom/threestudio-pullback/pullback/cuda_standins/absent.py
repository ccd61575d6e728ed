"""Packages that are not installed: importing them works, and using them raises an error that says what is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from ..errors import UserError


class Absent:
    """A name in an absent package; a call of it, or any attribute of it, raises UserError."""

    def __init__(self, name: str, need: str) -> None:
        self._sentence = f"{name} is used, but not installed: {need}"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises UserError, which says what is missing."""
        raise UserError(self._sentence)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # inspection reads such names of any object
            raise AttributeError(name)
        raise UserError(self._sentence)


class _Parts(MetaPathFinder, Loader):
    """Finds any module inside the package, and fills it."""

    def __init__(self, package: str, need: str, names: dict[str, Any]) -> None:
        self.package, self.need, self.names = package, need, names

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """A spec for every module inside the package, None for others."""
        inside = fullname.startswith(self.package + ".")
        return ModuleSpec(fullname, self, is_package=True) if inside else None

    def exec_module(self, module: ModuleType) -> None:
        """Fills a module: every name that is looked up in it is an `Absent`."""

        def missing(name: str) -> Absent:
            if name.startswith("__"):
                raise AttributeError(f"module '{module.__name__}' has no attribute '{name}'")
            return Absent(f"{module.__name__}.{name}", self.need)

        module.__path__ = []
        module.__dict__.update(self.names, __getattr__=missing)


def stand_in(package: str, need: str, **names: Any) -> None:
    """Makes the module that calls this a package in which every name can be imported, but none can be used.

    Args:
        package: its name.
        need: a clause that says what to install or to choose instead.
        names: objects that the package and all its modules do have.
    """
    parts = _Parts(package, need, names)
    parts.exec_module(sys.modules[package])
    sys.meta_path.append(parts)
