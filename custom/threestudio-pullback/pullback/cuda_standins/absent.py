"""Packages that are not installed: to import them, and anything in them, works; to use it says what is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from ..errors import UserError


class Absent:
    """A name in an absent package. Calling it, or asking for anything in it, raises UserError."""

    def __init__(self, name: str, need: str) -> None:
        self._sentence = f"{name} is used, but not there: {need}"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UserError(self._sentence)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # what inspection asks of any object
            raise AttributeError(name)
        raise UserError(self._sentence)


class _Parts(MetaPathFinder, Loader):
    """Finds any module inside the package, and fills it."""

    def __init__(self, package: str, need: str, names: dict[str, Any]) -> None:
        self.package, self.need, self.names = package, need, names

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        inside = fullname.startswith(self.package + ".")
        return ModuleSpec(fullname, self, is_package=True) if inside else None

    def exec_module(self, module: ModuleType) -> None:
        def missing(name: str) -> Absent:
            if name.startswith("__"):
                raise AttributeError(f"module '{module.__name__}' has no attribute '{name}'")
            return Absent(f"{module.__name__}.{name}", self.need)

        module.__path__ = []
        module.__dict__.update(self.names, __getattr__=missing)


def stand_in(package: str, need: str, **names: Any) -> None:
    """Makes the module that calls this a package in which every name and module is there, but of no use.

    Args:
        package: its name.
        need: a clause that says what has to be installed or chosen instead.
        names: what does exist, in the package and all its modules.
    """
    parts = _Parts(package, need, names)
    parts.exec_module(sys.modules[package])
    sys.meta_path.append(parts)
