"""Options of methods on a command line: "key=value", each with the type of its default."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import UserError
from ..sweep import engines


def of(owner: Callable[..., Any]) -> dict[str, Any]:
    """The options of a dataclass, or the keyword-only arguments of a function, with their defaults."""
    if dataclasses.is_dataclass(owner):
        return {field.name: field.default for field in dataclasses.fields(owner)}
    parameters = inspect.signature(owner).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def read(words: Iterable[str], defaults: dict[str, Any], where: str) -> dict[str, Any]:
    """Reads words "key=value" into a dict, in the order of `defaults`; the last one of a key counts.

    Args:
        words: Words of the command line.
        defaults: Every option and its default; a value gets the default's type.
        where: What the words belong to, such as "--method 'sds lr=2'"; messages begin with it.

    Raises:
        UserError: A word is no option, or its value has another type or is no finite number.
    """
    values: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in defaults:
            shown = ", ".join(f"{name}={_shown(default)}" for name, default in defaults.items())
            what = f"write key=value with one of {shown}" if defaults else "it has no options"
            raise UserError(f"{where}: {word!r} is no option; {what}")
        kind: type = type(defaults[key])
        try:
            values[key] = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except (KeyError, ValueError):
            right = "true or false" if kind is bool else f"a number (type {kind.__name__})"
            raise UserError(f"{where}: {key} must be {right}, not {value!r}") from None
        if kind is float and not math.isfinite(values[key]):
            raise UserError(f"{where}: {key} must be a finite number, not {value!r}")
    return {key: values[key] for key in defaults if key in values}


def of_engine(name: str, words: Iterable[str]) -> Any:
    """The options of a sweep's engine, from the words of --with.

    Raises:
        UserError: There is no such engine, or a word is none of its options.
    """
    kind = engines.find(name)
    return kind.Options(**read(words, of(kind.Options), f"--with of --on {name}"))


def label(name: str, options: dict[str, Any]) -> str:
    """A name and options as the command line has them: "name key=value …"."""
    return " ".join([name, *(f"{key}={_shown(value)}" for key, value in options.items())])


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
