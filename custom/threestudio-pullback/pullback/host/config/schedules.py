"""Values that change over a run, and threestudio's resolvers of values in a config."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from omegaconf import ListConfig, OmegaConf
from omegaconf import __version__ as _omegaconf

from ...errors import UserError


def config_to_primitive(config: Any, resolve: bool = True) -> Any:
    """A config node as plain dicts, lists and numbers; anything else as it is."""
    return OmegaConf.to_container(config, resolve=resolve) if OmegaConf.is_config(config) else config


def C(value: Any, epoch: int, global_step: int, interpolation: str = "linear") -> float:
    """The value of a schedule now.

    Args:
        value: a number, or [start, v0, v1, end] (start may be left out: 0), or
            [start, v0, v1, s1, v2, s2, …] in several pieces. An integer end counts steps, a float end epochs.
        epoch: the present epoch.
        global_step: the present step.
        interpolation: "linear" or "exp" (linear in the logarithm).

    Raises:
        UserError: `value` is no schedule.
    """
    if isinstance(value, (int, float)):
        return value
    knots = _knots(value)
    start, v0, v1, end = knots[:4]
    for i in range(3, len(knots) - 2, 2):
        if global_step >= knots[i]:
            start, v0, v1, end = knots[i], knots[i - 1], knots[i + 1], knots[i + 2]
    now = epoch if isinstance(end, float) else global_step
    t = max(min(1.0, (now - start) / (end - start)), 0.0) if end != start else float(now >= end)
    if interpolation == "exp":
        return v0 ** (1 - t) * v1**t
    if interpolation == "linear":
        return v0 + (v1 - v0) * t
    raise ValueError(f"interpolation is 'linear' or 'exp', not {interpolation!r}")


def _knots(value: Any) -> list[Any]:
    """[start, v0, v1, s1, v2, …] of a schedule that is a list, its start filled in."""
    knots = list(config_to_primitive(value)) if isinstance(value, (list, tuple, ListConfig)) else []
    if len(knots) == 3:
        knots = [0, *knots]
    if len(knots) < 4 or len(knots) % 2:
        raise UserError(f"a schedule is a number or a list [start, v0, v1, end], not {value!r}")
    return knots


def C_max(value: Any) -> float:
    """The largest value a schedule takes (see `C`)."""
    if isinstance(value, (int, float)):
        return value
    knots = _knots(value)
    return max(knots[1], *knots[2::2])


_VERSION = tuple(int(part) for part in _omegaconf.split(".")[:2])
_RESOLVERS: dict[str, Callable[..., Any]] = {
    "calc_exp_lr_decay_rate": lambda factor, n: factor ** (1.0 / n),
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "idiv": lambda a, b: a // b,
    "basename": lambda p: os.path.basename(p),
    "rmspace": lambda s, sub: str(s).replace(" ", sub),
    "tuple2": lambda s: [float(s), float(s)],
    "gt0": lambda s: s > 0,
    "cmaxgt0": lambda s: C_max(s) > 0,
    "not": lambda s: not s,
    "cmaxgt0orcmaxgt0": lambda a, b: C_max(a) > 0 or C_max(b) > 0,
}
# omegaconf 2.4 has renamed it; in 2.3 the new name was that of an older way
_register: Any = getattr(OmegaConf, "register_resolver" if _VERSION >= (2, 4) else "register_new_resolver")
for _name, _function in _RESOLVERS.items():
    _register(_name, _function, replace=True)
