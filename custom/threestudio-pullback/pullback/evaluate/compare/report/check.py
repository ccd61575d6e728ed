"""Whether a comparison's data is of the format that the page reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FORMAT = 1
GROUPS = ("quality", "diversity", "consistency", "cost")
STATUSES = ("done", "diverged", "failed")
TERMS = ("budget", "config", "model", "commit", "machine", "command", "date")
LARGEST = 1e300


class Wrong(Exception):
    """What is wrong and where in the data."""


def check(data: Any, folder: Path) -> None:
    """Raises Wrong where data, read from JSON, is not a comparison, or its turntables in folder are not what it says.

    Where something that may be left out is (curve, turntable, reason, steps), it is there afterwards: [] or None.
    """
    _is(isinstance(data, dict), "the file", "an object", data)
    _is(data.get("format") == FORMAT, "format", f"{FORMAT}, the one this version reads", data.get("format"))
    terms = _get(data, "", "terms", dict)
    for key in TERMS:
        _text(terms, "terms", key)
    for i, note in enumerate(_get(terms, "terms", "notes", list)):
        _is_text(note, f"terms.notes[{i}]")
    methods, measures = _methods(data), _measures(data)
    prompts, seeds = _get(data, "", "prompts", list), _get(data, "", "seeds", list)
    for i, prompt in enumerate(prompts):
        _is_text(prompt, f"prompts[{i}]")
    for i, seed in enumerate(seeds):
        _is(isinstance(seed, int) and not isinstance(seed, bool), f"seeds[{i}]", "a whole number", seed)
    _no_twin(prompts, "prompts")
    _no_twin(seeds, "seeds")
    for row, at in _each(data, "summary"):
        _known(row, at, "method", methods)
        _known(row, at, "measure", measures)
        for key in ("mean", "low", "high"):
            _number(row, at, key)
        _whole(row, at, "count", 0)
    _no_twin([(row["method"], row["measure"]) for row in data["summary"]], "summary")
    for run, at in _each(data, "runs"):
        for key, known in (("method", methods), ("prompt", prompts), ("seed", seeds)):
            _known(run, at, key, known)
        _known(run, at, "status", STATUSES)
        run.setdefault("reason", None)
        if run["reason"] is not None:
            _is_text(run["reason"], f"{at}.reason")
        _text(run, at, "command")
        _values(run, at, measures)
        _curve(run, at, measures)
        _turntable(run, at, folder)
    _no_twin([(run["method"], run["prompt"], run["seed"]) for run in data["runs"]], "runs")


def _methods(data: dict[str, Any]) -> list[str]:
    for method, at in _each(data, "methods"):
        for key in ("name", "title", "reference"):
            _text(method, at, key)
        _get(method, at, "settings", dict)
        if method.setdefault("steps", None) is not None:
            _whole(method, at, "steps", 0)
    names = [method["name"] for method in data["methods"]]
    _is(bool(names), "methods", "a list of one or more", names)
    _no_twin(names, "methods")
    return names


def _measures(data: dict[str, Any]) -> list[str]:
    for measure, at in _each(data, "measures"):
        for key in ("name", "title", "unit", "source"):
            _text(measure, at, key)
        _known(measure, at, "group", GROUPS)
        _known(measure, at, "better", ("higher", "lower", None))
    names = [measure["name"] for measure in data["measures"]]
    _no_twin(names, "measures")
    return names


def _values(owner: dict[str, Any], at: str, measures: list[str]) -> None:
    for name in _get(owner, at, "measures", dict):
        _is(name in measures, f"{at}.measures", f"of measures named in the file ({', '.join(measures)})", name)
        _number(owner["measures"], f"{at}.measures", name)


def _curve(run: dict[str, Any], at: str, measures: list[str]) -> None:
    run["curve"] = run.get("curve") or []
    for point, place in _each(run, "curve", at):
        _number(point, place, "nfe")
        _number(point, place, "seconds")
        _values(point, place, measures)


def _turntable(run: dict[str, Any], at: str, folder: Path) -> None:
    if run.setdefault("turntable", None) is None:
        return
    _text(run, at, "turntable")
    _whole(run, at, "frames", 1)
    _whole(run, at, "size", 1)
    file, at = folder / run["turntable"], f"{at}.turntable"
    inside = file.resolve().is_relative_to(folder.resolve())
    _is(inside and file.is_file(), at, "a file in the comparison's folder", run["turntable"])
    from PIL import Image

    try:
        with Image.open(file) as picture:
            found, form = picture.size, picture.format
    except OSError:
        raise Wrong(f"{at} names {run['turntable']}, which is no picture") from None
    _is(form in ("WEBP", "PNG", "JPEG"), at, "a WebP, PNG or JPEG picture", form)
    wanted = run["frames"] * run["size"], run["size"]
    _is(found == wanted, at, f"a strip of {run['frames']} frames, {wanted[0]} x {wanted[1]} pixels", list(found))


def _is(right: bool, at: str, wanted: str, found: Any) -> None:
    if not right:
        shown = json.dumps(found, default=str)
        raise Wrong(f"{at} is {shown if len(shown) <= 80 else shown[:80] + '…'}, which must be {wanted}")


def _get(owner: dict[str, Any], at: str, key: str, kind: type) -> Any:
    path = f"{at}.{key}" if at else key
    if key not in owner:
        raise Wrong(f"{path} is missing")
    _is(isinstance(owner[key], kind), path, {dict: "an object", list: "a list", str: "a text"}[kind], owner[key])
    return owner[key]


def _each(owner: dict[str, Any], key: str, at: str = "") -> Iterable[tuple[dict[str, Any], str]]:
    path = f"{at}.{key}" if at else key
    for i, part in enumerate(_get(owner, at, key, list)):
        _is(isinstance(part, dict), f"{path}[{i}]", "an object", part)
        yield part, f"{path}[{i}]"


def _is_text(value: Any, at: str) -> None:
    # JSON can hold half a surrogate pair, UTF-8 cannot
    _is(isinstance(value, str) and not re.search("[\ud800-\udfff]", value), at, "a text", value)


def _text(owner: dict[str, Any], at: str, key: str) -> None:
    _is_text(_get(owner, at, key, str), f"{at}.{key}")


def _number(owner: dict[str, Any], at: str, key: str) -> None:
    value = owner.get(key)
    # 1e999 reads as infinity, and a whole number may be too long for a float
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST < value < LARGEST
    _is(right, f"{at}.{key}", "a finite number", value)


def _whole(owner: dict[str, Any], at: str, key: str, least: int) -> None:
    value = owner.get(key)
    right = isinstance(value, int) and not isinstance(value, bool) and value >= least
    _is(right, f"{at}.{key}", f"a whole number, {least} or more", value)


def _known(owner: dict[str, Any], at: str, key: str, known: Iterable[Any]) -> None:
    known = list(known)
    names = ", ".join(json.dumps(name) for name in known)
    _is(key in owner and owner[key] in known, f"{at}.{key}", f"one of {names}", owner.get(key))


def _no_twin(values: list[Any], at: str) -> None:
    seen: list[Any] = []
    for value in values:
        if value in seen:
            raise Wrong(f"{at} has {json.dumps(value)} twice")
        seen.append(value)
