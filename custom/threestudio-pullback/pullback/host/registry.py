"""The flat table from a config's `<part>_type` name to the class which builds that part."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from ..errors import UserError
from . import only_threestudio

T = TypeVar("T", bound=type)

logger = logging.getLogger("pullback")
debug, info, warn = logger.debug, logger.info, logger.warning

_classes: dict[str, Any] = {}


def register(name: str) -> Callable[[T], T]:
    """Class decorator that enters a class under the name a config uses for it.

    Raises:
        ValueError: another class has the name; the message names both modules.
    """

    def enter(cls: T) -> T:
        if name in _classes:
            first = _classes[name].__module__
            raise ValueError(f"the name '{name}' is registered twice: by {first} and by {cls.__module__}")
        _classes[name] = cls
        return cls

    return enter


def find(name: str, path: str = "") -> Any:
    """The class registered as `name`.

    Args:
        name: the registered name.
        path: config path that holds the name, for the error, e.g. `system.geometry_type`.

    Raises:
        UserError: no class has that name; the message gives the nearest name, or says that threestudio has it.
    """
    if name in _classes:
        return _classes[name]
    if not name and path:
        raise UserError(f"`{path}` must be given: it names what to build; {suggest(name, _classes)}")
    where = f"`{path}` names " if path else ""
    if name in only_threestudio.NAMES:
        raise UserError(
            f"{where}'{name}', which is threestudio's and not in the bundled host; run it there with --threestudio DIR"
        )
    raise UserError(f"{where}'{name}', which is not registered; {suggest(name, _classes)}")


def is_registered(name: str) -> bool:
    """Whether `find(name)` would succeed."""
    return name in _classes


def check_keys(keys: Iterable[Any], names: Collection[str], path: str) -> None:
    """Raises UserError for the first key that is not among the names; `path` is the config path of their block."""
    for key in keys:
        if key not in names:
            raise UserError(f"unknown key `{path}.{key}`; {suggest(str(key), names)}")


def suggest(word: str, names: Iterable[str]) -> str:
    """'did you mean …?' with the name nearest to `word`, or all names where none is near."""
    names = sorted(names)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return "known are " + ", ".join(f"`{n}`" for n in names) if names else "none is known here"
