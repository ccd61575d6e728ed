"""Models that outlive a run: in a process that makes many, each is loaded once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .protocol import LatentModel

MOST = 2
"""How many models are kept; a method may have a second one. The one that was used longest ago goes first."""
_kept: dict[str, LatentModel] = {}
_users = 0
_lock = threading.Lock()


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """A context in which a config's model is loaded once, however many runs have it.

    A model is frozen, and no run changes it. Contexts may overlap, in several threads too; what is kept goes with the
    last of them.
    """
    global _users
    with _lock:
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _kept.clear()


def get(described: dict[str, Any], load: Callable[[], LatentModel]) -> LatentModel:
    """The model that is kept for a description, or else a new one.

    Args:
        described: All that the model depends on, in values whose `repr` says it; paths of files and folders count with
            the sizes and times of what they hold.
        load: Makes it.
    """
    if not _users:
        return load()
    key = repr({name: (value, _content(value)) for name, value in described.items()})
    model = _kept.pop(key, None)
    while model is None and len(_kept) >= MOST:
        del _kept[next(iter(_kept))]
    model = load() if model is None else model
    _kept[key] = model
    return model


def _content(value: Any) -> Any:
    """Sizes and times of the files that a path names."""
    if not isinstance(value, (str, Path)) or not os.path.exists(value):
        return None
    files = [Path(value)] if os.path.isfile(value) else sorted(Path(value).rglob("*"))
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
