"""YAML files and the command line into a checked config."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException

from ...errors import UserError, first_line
from ...output import whole
from ...resources import config_remedy
from ...resources import find as find_shipped
from ..registry import find, is_registered
from .former import replace_part
from .schedules import config_to_primitive
from .schema import ExperimentConfig, config_path, missing_values, parse_structured


def dump_config(path: str, config: Any) -> None:
    """Writes a config to a file as YAML."""
    whole.write(path, OmegaConf.to_yaml(config))


def load_config(
    *files: str,
    cli_args: Sequence[str] = (),
    from_string: bool = False,
    say: Callable[[str], None] | None = None,
    check: Callable[[dict[str, Any]], None] | None = None,
    **kwargs: Any,
) -> Any:
    """The experiment's config: files merged in order, then the command line, then keywords.

    Args:
        files: paths of YAML files, or YAML text with `from_string`.
        cli_args: overrides "dotted.key=value". The value is YAML, except where the key takes text: there it
            is taken as it stands, unless it is a quoted YAML string.
        from_string: whether `files` are YAML text.
        say: gets a line about each part that the command line replaces, see `replace_part`.
        check: gets what files and command line say, before a value that must be given is asked for.
        kwargs: top-level keys set by the program.

    Raises:
        UserError: file missing or no YAML, an override that cannot be read, an interpolation that leads
            nowhere, or anything `parse_structured` refuses.
    """
    cfg = OmegaConf.merge(*(read_yaml(f, from_string) for f in files))
    # types first: which keys take text depends on them
    for arg in sorted(cli_args, key=lambda a: not a.partition("=")[0].endswith("_type")):
        key, raw = split_override(arg)
        if (line := replace_part(cfg, key, raw)) and say is not None:
            say(line)
        try:
            cfg = OmegaConf.merge(cfg, override(cfg, key, raw))
        except GrammarParseError as e:
            raise UserError(
                f"`{key}` holds ${{, which starts an interpolation here, but none follows; leave it out"
            ) from e
        except (TypeError, ValueError, OmegaConfBaseException) as e:
            raise UserError(f"`{key}` cannot take the value {raw!r} of the command line: {first_line(e)}") from e
    if check is not None:
        written: Any = OmegaConf.to_container(cfg, resolve=False)
        check(written)
    cfg = OmegaConf.merge(cfg, kwargs)
    try:
        OmegaConf.resolve(cfg)
    except OmegaConfBaseException as e:
        missing = list(_missing_keys(OmegaConf.to_container(cfg, resolve=False)))
        if missing and "MissingValue" in f"{type(e).__name__} {e}":
            raise UserError(missing_values(missing) + _meant(missing, cli_args)) from e
        raise UserError(f"`{e.full_key}`: {first_line(e)}") from e
    return parse_structured(ExperimentConfig, cfg)


def read_yaml(source: str, from_string: bool = False) -> DictConfig:
    """A YAML file, or YAML text with `from_string`, unresolved; UserError for what cannot be read.

    A file that is not there may be a shipped one: `configs/pullback-nerf-tiny.yaml`, or `pullback-nerf-tiny.yaml`.
    """
    where = "the config text" if from_string else f"the config file {source}"
    try:
        cfg = OmegaConf.create(source) if from_string else OmegaConf.load(find_shipped(source))
    except FileNotFoundError as e:
        raise UserError(f"cannot read {where}: {e.strerror}; {config_remedy()}") from e
    except OSError as e:
        raise UserError(f"cannot read {where}: {e.strerror}; check --config") from e
    except UnicodeDecodeError as e:
        raise UserError(f"{where} is not a text file in UTF-8") from e
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(e, "problem", None) or first_line(e)
        hint = "put text that holds : # [ or { in quotes"
        raise UserError(f"{where}{line}, is not valid YAML: {problem}; {hint}") from e
    except OmegaConfBaseException as e:
        raise UserError(f"{where}: {first_line(e)}") from e
    if not isinstance(cfg, DictConfig):
        raise UserError(f"{where} should hold keys and values at its top level")
    return cfg


def split_override(arg: str) -> tuple[str, str]:
    """Dotted key and value of an override "key=value"; UserError for anything else."""
    key, equals, raw = arg.partition("=")
    if not equals or not key or key.startswith("-"):
        raise UserError(
            f"cannot read `{arg}` on the command line: overrides are written key=value; "
            "a prompt is system.prompt_processor.prompt=TEXT, or --prompt TEXT in a command that has it"
        )
    return key, raw


def override(cfg: Any, key: str, raw: str) -> DictConfig:
    """A config with one value from the command line.

    Args:
        cfg: the config it will be merged into, which says whether the key takes text.
        key: dotted key.
        raw: the value: text where the key takes text, else YAML.

    Raises:
        UserError: the value is no YAML.
    """
    if _takes_text(cfg, key) and raw.strip() not in ("null", "~") and not _is_quoted(raw):
        text = OmegaConf.create()
        OmegaConf.update(text, key, raw)
        return text
    try:
        return OmegaConf.from_dotlist([f"{key}={raw}"])
    except yaml.YAMLError as e:
        raise UserError(f"cannot read the value of `{key}` on the command line, {raw!r}, as YAML; quote it") from e


def _is_quoted(raw: str) -> bool:
    try:
        return raw[:1] in ("'", '"') and isinstance(yaml.safe_load(raw), str)
    except yaml.YAMLError:
        return False


def _takes_text(cfg: Any, key: str) -> bool:
    """Whether a dotted key holds text by the annotation in its dataclass."""
    cls, block = ExperimentConfig, cfg
    *blocks, last = key.split(".")
    for name in blocks:
        if f"{name}_type" not in get_type_hints(cls) or not isinstance(block, DictConfig):
            return False
        kind = block.get(f"{name}_type", getattr(cls, f"{name}_type", ""))
        if not is_registered(str(kind)):
            return False
        cls, block = find(str(kind)).Config, block.get(name)
    return get_type_hints(cls).get(last) in (str, Optional[str])  # noqa: UP045


def check_parts(cls: Any, cfg: Any) -> dict[str, Any]:
    """Checks every block named by a `<part>_type` key, at any depth, before anything is built.

    Args:
        cls: dataclass that describes `cfg`.
        cfg: parsed config of that dataclass.

    Returns:
        The config as plain dicts, with the defaults of every block filled in.

    Raises:
        UserError: a type which is not registered, or a block its class refuses.
    """
    full = config_to_primitive(cfg)
    names = get_type_hints(cls)
    for name in sorted(n for n in names if f"{n}_type" in names):
        kind, where = cfg[f"{name}_type"], config_path(cfg, f"{name}_type")
        if kind:
            part = find(kind, where)
            if (role := getattr(part, "role", name)) != name:  # a user's own part need not say
                raise UserError(f"`{where}` names '{kind}', which is for `{role}_type`; give one for `{name}_type`")
            full[name] = check_parts(part.Config, parse_structured(part.Config, cfg[name]))
        elif cfg[name]:
            raise UserError(f"`{config_path(cfg, name)}` is given, but `{where}`, which names its kind, is not")
    return full


def _meant(missing: Sequence[str], cli_args: Sequence[str]) -> str:
    """A hint at overrides that end as a missing key does, such as `prompt=`; "" where there is none."""
    ends = {path.rpartition(".")[2] for path in missing}
    typed = [arg.partition("=")[0] for arg in cli_args]
    other = [key for key in typed if key not in missing and key.rpartition(".")[2] in ends]
    return "".join(f"; `{key}` of the command line is another key" for key in other)


def _missing_keys(block: Any, base: str = "") -> Iterator[str]:
    for key, value in block.items():
        if isinstance(value, dict):
            yield from _missing_keys(value, f"{base}{key}.")
        elif value == "???":
            yield f"{base}{key}"
