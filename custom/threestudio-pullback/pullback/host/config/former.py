"""A part that the command line replaces: the keys of the part before it do not hold for the new one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..registry import find, is_registered

END = "_type"


def replace_part(cfg: Any, key: str, kind: str) -> str:
    """Takes out of a config what belongs to the part that an override replaces.

    Args:
        cfg: The config, without the override; it is changed.
        key: The override's dotted key.
        kind: Its value; another key than a part's type, or the same type, changes nothing.

    Returns:
        A line that says what was taken out; "" for nothing.
    """
    former = OmegaConf.select(cfg, key) if key.endswith(END) else None
    block = OmegaConf.select(cfg, key.removesuffix(END)) if former not in (None, kind) else None
    if not isinstance(block, DictConfig) or not is_registered(kind):
        return ""
    kept = _keys(kind)
    if kept is None:
        return ""
    ignores = getattr(find(kind).Config, "ignores", lambda _: False)
    theirs = _keys(str(former)) if is_registered(str(former)) else None
    gone = [str(k) for k in block if k not in kept and not ignores(k) and (theirs is None or k in theirs)]
    for name in gone:
        del block[name]
    left_out = f"left out: {', '.join(gone)} of {key.removesuffix(END)}"
    return f"`{key}` is {kind} in place of {former}; {left_out}" if gone else ""


def _keys(kind: str) -> Collection[str] | None:
    """The keys of a registered class; None where it describes none."""
    config = getattr(find(kind), "Config", None)
    return {f.name for f in dataclasses.fields(config)} if dataclasses.is_dataclass(config) else None
