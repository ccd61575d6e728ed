"""A block of config against the dataclass that describes it; the dataclass of a whole run."""

from __future__ import annotations

import math
import os
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from ...errors import ConfigError, UserError, first_line
from ...output.file_names import plain
from ..registry import suggest
from .schedules import config_to_primitive


@dataclass
class ExperimentConfig:
    """One run; its files go to `trial_dir` = exp_root_dir/name/tag[@timestamp]."""

    name: str = "default"
    description: str = ""
    tag: str = ""
    seed: int = 0
    use_timestamp: bool = True
    timestamp: str | None = None
    exp_root_dir: str = "outputs"

    # computed from the above, whatever the file says
    exp_dir: str = "outputs/default"
    trial_name: str = "exp"
    trial_dir: str = "outputs/default/exp"
    n_gpus: int = 1

    resume: str | None = None

    data_type: str = ""
    data: dict = field(default_factory=dict)
    system_type: str = ""
    system: dict = field(default_factory=dict)
    trainer: dict = field(default_factory=dict)  # keywords of Lightning's Trainer
    checkpoint: dict = field(default_factory=dict)  # keywords of Lightning's ModelCheckpoint

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ConfigError("seed", f"must lie between 0 and {2**32 - 1}, not {self.seed}")
        for name in ("name", "exp_root_dir"):
            if not getattr(self, name).strip():
                raise ConfigError(name, "is empty; it names the folder the run's files go to")
            if "\0" in getattr(self, name):
                raise ConfigError(name, "has a zero byte, which no folder's name may have")
        if self.timestamp is None:
            self.timestamp = datetime.now().strftime("@%Y%m%d-%H%M%S") if self.use_timestamp else ""
        self.exp_dir = os.path.join(self.exp_root_dir, self.name)
        self.trial_name = plain(self.tag) + self.timestamp
        outside = {
            "name": os.path.isabs(self.name) or ".." in self.name.split("/"),
            "tag": self.tag in (".", ".."),
            "timestamp": "/" in self.timestamp or self.trial_name in (".", ".."),
        }
        for key in (key for key, is_outside in outside.items() if is_outside):
            raise ConfigError(key, "must be a folder below `exp_root_dir`, without '..'; set `exp_root_dir` instead")
        self.trial_dir = os.path.join(self.exp_dir, self.trial_name)


def config_path(cfg: Any, key: str = "") -> str:
    """The dotted path of `key` (or of the block itself) from the top of the experiment's config."""
    if not isinstance(cfg, DictConfig):
        return key
    base = cfg._get_full_key("")
    return f"{base}.{key}" if base and key else base or key


def parse_structured(cls: Any, cfg: Any = None) -> Any:
    """A block of config checked against the dataclass that describes it.

    Args:
        cls: dataclass; its annotations are the types, its field names the keys. It may have a function
            `ignores(key)`, true for other keys that are left out in silence.
        cfg: the block: a DictConfig (which knows its own path) or a dict; None stands for an empty one.

    Returns:
        Struct-mode DictConfig with the defaults filled in; `config_path` of it is that of `cfg`.

    Raises:
        UserError: unknown key (the message suggests the nearest), wrong type, a missing value, or an error of the
            dataclass's `__post_init__`, all with the path: a ConfigError has that of its key, a ValueError the block's.
    """
    base = config_path(cfg)

    def path(key: str) -> str:
        return f"{base}.{key}" if base else key

    if cfg is not None and not isinstance(cfg, (dict, DictConfig)):
        raise UserError(f"`{base}` should be a block of keys, but is {cfg!r}")
    hints = get_type_hints(cls)
    probe: Any = OmegaConf.structured(cls)
    values: dict[str, Any] = {}
    block = {} if cfg is None else cfg
    for key in list(block.keys()):
        name = str(key)
        if name not in hints:
            if getattr(cls, "ignores", lambda _: False)(name):
                continue
            raise UserError(f"unknown key `{path(name)}`; {suggest(name, hints)}")
        try:
            value = block[key]
        except MissingMandatoryValue:
            raise UserError(missing_values([path(name)])) from None
        except OmegaConfBaseException as e:
            raise UserError(f"`{path(name)}`: {first_line(e)}") from e
        _check_length(path(name), hints[name], value)
        try:
            OmegaConf.update(probe, name, value, merge=False)
        except OmegaConfBaseException as e:
            raise UserError(_wrong_type(path(name), hints[name], value)) from e
        values[name] = probe[name]
        for where, number in _numbers(config_to_primitive(values[name]), path(name)):
            if not math.isfinite(number):
                raise UserError(f"`{where}` must be a finite number, not {number}")
    try:
        scfg = OmegaConf.structured(cls(**values))
    except ConfigError as e:
        raise ConfigError(path(e.key), e.message) from e
    except UserError:
        raise
    except ValueError as e:
        raise UserError(f"`{base}`: {e}") from e
    except Exception as e:  # of a check that meets a value of another kind than it is for
        raise UserError(_unfit(cls, values, path, e)) from e
    # the new tree has no parent, so the path travels as the key of its root
    scfg._set_key(base or None)
    return scfg


def _unfit(cls: Any, values: dict[str, Any], path: Callable[[str], str], error: Exception) -> str:
    """The sentence for a value that the checks of a dataclass cannot even look at: the one without which they can."""
    for name, value in values.items():
        try:
            cls(**{other: v for other, v in values.items() if other != name})
        except Exception:
            continue
        return f"`{path(name)}` cannot be {config_to_primitive(value)!r}: {first_line(error)}"
    return f"`{path('')}` has a value of a kind that does not belong there: {first_line(error)}".replace(".`", "`")


def _numbers(tree: Any, path: str) -> Iterator[tuple[str, float]]:
    """The floating-point leaves of plain dicts and lists, with their paths."""
    if isinstance(tree, float):
        yield path, tree
    elif isinstance(tree, (dict, list, tuple)):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _numbers(value, f"{path}.{key}" if isinstance(tree, dict) else f"{path}[{key}]")


def _wrong_type(path: str, hint: Any, value: Any) -> str:
    plain = config_to_primitive(value)
    return f"`{path}` should be {_type_name(hint)}, but is {plain!r} ({_type_name(type(plain))})"


def check_type(path: str, hint: Any, value: Any) -> None:
    """Raises UserError where a value is not of an annotation made of int, float, bool, str and None; others pass."""
    kinds = get_args(hint) or (hint,)
    if all(k in (int, float, bool, str, type(None)) for k in kinds):
        fits = type(value) in kinds or (type(value) is int and float in kinds)
        fits |= str in kinds and not isinstance(config_to_primitive(value), (list, dict))  # any other is a text too
        if not fits:
            raise UserError(_wrong_type(path, hint, value))


def _check_length(path: str, hint: Any, value: Any) -> None:
    args, plain = get_args(hint), config_to_primitive(value)
    fixed = get_origin(hint) is tuple and Ellipsis not in args
    if fixed and isinstance(plain, (list, tuple)) and len(plain) != len(args):
        raise UserError(f"`{path}` should be a list of {len(args)} values, but is {plain!r}")
    if get_origin(hint) in (list, tuple) and isinstance(plain, (list, tuple)):
        for number, item in enumerate(plain):
            if isinstance(item, (list, dict)) and {*args} <= {int, float, bool, str, Ellipsis}:
                raise UserError(_wrong_type(f"{path}[{number}]", args[0], item))


def _type_name(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join("null" if h is type(None) else _type_name(h) for h in get_args(hint))
    plural = {int: "integers", float: "numbers", str: "texts"}
    if get_origin(hint) in (list, tuple):
        inner = [plural[h] for h in dict.fromkeys(get_args(hint)) if h in plural]
        return f"a list of {' and '.join(inner)}" if inner else "a list"
    names = {int: "an integer", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    names |= {Any: "a list or a block of keys", dict: "a block of keys", list: "a list", tuple: "a list"}
    return names.get(hint, names.get(get_origin(hint), getattr(hint, "__name__", str(hint))))


def missing_values(paths: Sequence[str]) -> str:
    """The sentence that asks for the values of these config paths."""
    what = " and ".join(f"`{p}`" for p in paths)
    return f"{what} must be given: set it in the config file or on the command line as {paths[0]}=…"
