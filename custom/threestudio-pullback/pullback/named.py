"""Parts that a config names, such as noise couplings; a part's options are the fields of its dataclass."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar, Union, cast, get_type_hints

from .errors import UserError

T = TypeVar("T")
C = TypeVar("C", bound=type)
Choice = Union[str, Mapping[str, Any], T]  # noqa: UP007 (3.10 has no subscript for the other form)
"""A part by its name, by `{"type": name, option: value}`, or itself: `Choice[Coupling]`."""


class Named(Mapping[str, T], Generic[T]):
    """The parts of one kind by name, each a dataclass with default values.

    Args:
        kind: The word for them in an error, such as "noise".
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._parts: dict[str, T] = {}

    def register(self, name: str, **options: Any) -> Callable[[C], C]:
        """Class decorator that enters an instance with these options under `name`."""

        def enter(cls: C) -> C:
            self._parts[name] = cls(**options)
            return cls

        return enter

    def discover(self, package: str, path: Iterable[str]) -> None:
        """Imports every module of a package, so that a new part takes one file in its folder."""
        for module in sorted(info.name for info in pkgutil.iter_modules(path)):
            importlib.import_module(f"{package}.{module}")

    def __getitem__(self, name: str) -> T:
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._parts  # a list is no name, and no key of a dict

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def find(self, choice: Choice[T]) -> T:
        """The part that a choice means.

        Args:
            choice: A name, `{"type": name, option: value, …}`, or a part itself, which is returned.

        Raises:
            UserError: There is no such name or option, or a value has another type.
        """
        options: dict[str, Any] = {}
        if isinstance(choice, Mapping):
            options = {str(key): value for key, value in cast(Mapping[Any, Any], choice).items()}
            if "type" not in options:
                raise UserError(f"{self.kind} {options} names no type; use one of {', '.join(self)}")
            choice = cast(str, options.pop("type"))
        elif not isinstance(choice, str):
            return choice
        if choice not in self:
            raise UserError(f"{self.kind} {choice!r} is not known; use one of {', '.join(self)}")
        part: Any = self._parts[choice]
        kind: type[Any] = cast(type[Any], type(part))
        fields = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        hints = get_type_hints(kind)
        for name, value in options.items():
            if name not in fields:
                has = ", ".join(fields) or "none"
                raise UserError(f"{self.kind} {choice!r} has no option {name!r}; its options: {has}")
            kinds = (int, float) if hints[name] is float else (hints[name],)
            if hints[name] in (int, float, bool, str) and (type(value) not in kinds):
                raise UserError(f"{self.kind} {choice!r}: {name} must be {hints[name].__name__}, not {value!r}")
        tuples = {name: tuple(cast(Any, v)) if isinstance(v, list) else v for name, v in options.items()}
        try:
            return cast(T, dataclasses.replace(part, **tuples) if tuples else part)
        except TypeError as error:  # of a value that the part does not check, such as a word among numbers
            raise UserError(f"{self.kind} {choice!r} cannot take {tuples}: {error}") from error
