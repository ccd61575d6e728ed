"""What a comparison consists of: methods as changes of one base config, prompts, and a budget."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ...errors import ConfigError, UserError, first_line
from ...host import config as host_config
from ...host.parts import load_parts
from ...host.prompts import looked_up, stripped
from ...host.registry import suggest
from ...resources import CONFIGS, config_remedy, find
from ..exact_worlds.methods import METHODS as TABLE

METHODS = CONFIGS / "compare"
BUDGETS = ("nfe", "seconds", "steps")
REPLACED = ("guidance", "loss")
"""Blocks of `system` that belong to one method. The method's file replaces them whole, unless the base is for it."""
FIELDS = ("title", "reference", "length", "calls_per_view", "repeats", "published", "config")


@dataclass(frozen=True)
class Budget:
    """What every run may cost.

    Attributes:
        kind: "nfe": denoiser calls, where each view of each network evaluation counts; "seconds" of training, on the
            wall; or "steps" of training.
        amount: How many of them.
    """

    kind: str
    amount: float

    @staticmethod
    def parse(text: str) -> Budget:
        """Reads "nfe=2000", "seconds=120" or "steps=500"; raises UserError for another text."""
        kind, _, amount = text.partition("=")
        try:
            value = float(amount)
        except ValueError:
            value = 0.0
        if kind not in BUDGETS or not 0 < value < 1e12:
            raise UserError(f"--budget is written nfe=2000, seconds=120 or steps=500, not {text!r}")
        return Budget(kind, value)

    def __str__(self) -> str:
        return f"{self.kind}={self.amount:g}"


@dataclass(frozen=True)
class Method:
    """A method of the comparison, with its whole config.

    Attributes:
        name: As on the command line.
        title: For a reader.
        reference: Where it was published.
        length: The keys that set the length of a run; all get the same number.
        calls_per_view: Denoiser calls of a view and a step, for runs that do not log `nfe`.
        repeats: The key of how many steps one unit of length takes; None for one step.
        published: {seconds_per_call, where} of other people's runs, for an estimate.
        settings: What differs from the method's file, by dotted key.
    """

    name: str
    title: str
    reference: str
    length: tuple[str, ...]
    calls_per_view: float
    repeats: str | None
    published: dict[str, Any] | None
    config: DictConfig = field(compare=False)
    settings: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def calls_per_step(self) -> float:
        """Denoiser calls of a training step with the config's batch."""
        return self.calls_per_view * batch_size(self.config.data)

    @property
    def steps_per_length(self) -> int:
        """Training steps of one unit of length."""
        return int(OmegaConf.select(self.config, self.repeats, default=1)) if self.repeats else 1

    def overrides(self, length: int) -> list[str]:
        """The overrides, key=value, that give a run this length."""
        return [f"{key}={length}" for key in self.length]

    def with_settings(self, settings: dict[str, Any]) -> Method:
        """The method with config values changed, by dotted key."""
        changed = _updated(self.config, settings)
        everything = {**self.settings, **settings}
        return dataclasses.replace(self, config=changed, settings=everything)


def batch_size(data: Any) -> float:
    """Views of a training step; the first of several, where the config has one for each resolution."""
    return float(data.batch_size if isinstance(data.batch_size, (int, float)) else data.batch_size[0])


def load_methods(base: Path, names: list[str], settings: Path | None) -> list[Method]:
    """Loads the methods of a comparison over a base config.

    Args:
        base: The base config.
        names: Names of files in configs/compare/methods/ without ".yaml", or paths of such files.
        settings: A YAML file {all or method: {dotted key: value}}, tuned for `base`; None for
            configs/compare/<name of base>.yaml, if that exists.

    Raises:
        UserError: A file cannot be read, or has an unknown name or key.
    """
    tuned = _settings(settings or METHODS / base.name, required=settings is not None)
    read = _read(base, "--config")
    methods = [_method(name, read) for name in names]
    names_there = ["all", *(method.name for method in methods), *_shipped()]
    for name in tuned:
        if name not in names_there:
            raise UserError(f"--settings has a block `{name}`, which names no method; {suggest(name, names_there)}")
    return [m.with_settings({**tuned.get("all", {}), **tuned.get(m.name, {})}) for m in methods]


def overridden(method: Method, words: list[str]) -> Method:
    """The method with overrides of the command line, key=value, as launch.py reads them."""
    if any(word.partition("=")[0].endswith("_type") for word in words):
        load_parts()
    settings: dict[str, Any] = {}
    method = method.with_settings({})
    for word in sorted(words, key=lambda w: not w.partition("=")[0].endswith("_type")):
        key, raw = host_config.split_override(word)
        host_config.replace_part(method.config, key, raw)
        value = OmegaConf.select(host_config.override(method.config, key, raw), key)
        settings[key] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    return method.with_settings(settings)


def for_threestudio(method: Method) -> Method:
    """The method for threestudio's own classes, which lack `guidance_scale_plus_one`: there a scale s means s + 1."""
    changed = method.with_settings({})
    guidance = changed.config.system.guidance
    if not guidance.pop("guidance_scale_plus_one", True):
        guidance.guidance_scale -= 1
    return changed


def load_prompts(text: str) -> list[str]:
    """Reads prompts from a file, one a line (# starts a comment), or from the text itself, with ; between them.

    Raises:
        UserError: There is no such file, or no prompt.
    """
    path = find(text) if text.endswith(".txt") else Path(text)
    is_file = os.path.isfile(path)  # Path.is_file raises for a text that is too long for a path
    if text.endswith(".txt") and not is_file:
        raise UserError(f"--prompts {text} is not there; give a file with a prompt a line")
    lines = _read_text(path, "--prompts").splitlines() if is_file else text.split(";")
    try:
        prompts = [looked_up(line) for line in map(stripped, lines) if line and not line.startswith("#")]
    except ConfigError as error:
        raise UserError(f"--prompts {text}: a prompt {error.message}") from error
    if not prompts:
        raise UserError(f"--prompts {text!r} holds no prompt; give a file with a prompt a line")
    return list(dict.fromkeys(prompts))


def _read_text(path: Path, option: str) -> str:
    """A text file in UTF-8, without the mark that some editors put in front; UserError for another file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        raise UserError(f"cannot read {option} {path}: {error.strerror}; give a file with a prompt a line") from error
    if "\0" in text:  # UTF-16 of English text is valid UTF-8 but for its mark
        raise UserError(f"{option} {path} is not a text file in UTF-8; save it as UTF-8")
    return text


def usual() -> list[str]:
    """The methods of the table that have a file."""
    return [name for name in TABLE if name in _shipped()]


def _shipped() -> list[str]:
    return sorted(file.stem for file in (METHODS / "methods").glob("*.yaml"))


def _method(name: str, base: DictConfig) -> Method:
    file = find(name) if name.endswith(".yaml") else METHODS / "methods" / f"{name}.yaml"
    if not os.path.isfile(file):
        raise UserError(f"--methods names '{name}', which is not there; {suggest(name, _shipped())}")
    described = _read(file, "--methods")
    for key in described:
        if key not in FIELDS:
            raise UserError(f"unknown key `{key}` in {file}; {suggest(str(key), FIELDS)}")
    own = described.get("config") or OmegaConf.create()
    merged: Any = OmegaConf.create(OmegaConf.to_container(base, resolve=False))
    if OmegaConf.select(own, "system.guidance_type") != OmegaConf.select(base, "system.guidance_type"):
        for block in REPLACED:
            if block in merged.system:
                del merged.system[block]
    else:  # the base is this method's own config, and its values win over the file's
        own = OmegaConf.create({k: v for k, v in own.items() if k == "system_type"})
    whole: Any = OmegaConf.merge(merged, own)
    title, reference = (TABLE[file.stem].title, TABLE[file.stem].reference) if file.stem in TABLE else (file.stem, "")
    return Method(
        file.stem, described.get("title", title), described.get("reference", reference),
        tuple(described.get("length", ["trainer.max_steps"])), float(described.get("calls_per_view", 0)),
        described.get("repeats"), described.get("published"), whole,
    )  # fmt: skip


def _settings(file: Path, required: bool) -> dict[str, dict[str, Any]]:
    file = find(file)
    if not os.path.isfile(file):
        if required:
            raise UserError(f"--settings {file} is not there; give a YAML file of {{method: {{key: value}}}}")
        return {}
    blocks = OmegaConf.to_container(_read(file, "--settings"), resolve=False)
    assert isinstance(blocks, dict)
    for name, block in blocks.items():
        if not isinstance(block, dict):
            raise UserError(f"`{name}` in {file} should be a block of {{dotted.key: value}}, not {block!r}")
    return blocks  # pyright: ignore


def _updated(config: DictConfig, settings: dict[str, Any]) -> DictConfig:
    changed = OmegaConf.create(OmegaConf.to_container(config, resolve=False))
    assert isinstance(changed, DictConfig)
    for key, value in settings.items():
        try:
            if isinstance(OmegaConf.select(changed, key), DictConfig) and not isinstance(value, dict):
                raise UserError(f"`{key}` should be a block of keys, but is {value!r}")
            OmegaConf.update(changed, key, value)
        except OmegaConfBaseException as error:
            raise UserError(f"`{key}` cannot take the value {value!r}: {first_line(error)}") from error
    return changed


def _read(file: Path, option: str) -> DictConfig:
    file = find(file)
    if not os.path.isfile(file):
        raise UserError(f"{option} {file} is not there; {config_remedy()}")
    return host_config.read_yaml(str(file))
