"""Checks a comparison's data: compare.schema.json, and the rules that no schema can express."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = Path(__file__).with_name("compare.schema.json")


class Wrong(Exception):
    """What is wrong and where in the data."""


def check(data: Any, folder: Path) -> None:
    """Checks a comparison, and sets fields that may be missing (curve, turntable, reason, steps) to [] or None.

    Args:
        data: The contents of the JSON file.
        folder: The folder of its turntables.

    Raises:
        Wrong: The data is no comparison, or a turntable is not as the data says.
    """
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    _validate(data, schema)
    names = {"prompt": data["prompts"], "seed": data["seeds"]}
    names |= {key: [part["name"] for part in data[f"{key}s"]] for key in ("method", "measure")}
    for key, values in names.items():
        _no_twin(values, f"{key}s")
        schema["$defs"][key] = {"enum": values}
    _validate(data, schema)
    _no_twin([[row["method"], row["measure"]] for row in data["summary"]], "summary")
    _no_twin([[run["method"], run["prompt"], run["seed"]] for run in data["runs"]], "runs")
    data["methods"] = [{"steps": None} | method for method in data["methods"]]
    data["runs"] = [
        {"reason": None, "turntable": None} | run | {"curve": run.get("curve") or []} for run in data["runs"]
    ]
    for i, run in enumerate(data["runs"]):
        if run["turntable"] is not None:
            _turntable(run, f"runs[{i}].turntable", folder)


def _validate(data: Any, schema: dict[str, Any]) -> None:
    """Raises Wrong with the schema's first error: `description` in the schema is what a value must be."""
    error = next(Draft202012Validator(schema).iter_errors(data), None)
    if error is None:
        return
    at = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        raise Wrong(f"{at}.{missing}".lstrip(".") + " is missing")
    rule = error.schema.get("description") or f"one of {', '.join(map(json.dumps, error.validator_value))}"
    _is(False, at or "the file", rule, error.instance)


def _turntable(run: dict[str, Any], at: str, folder: Path) -> None:
    from PIL import Image

    file = folder / run["turntable"]
    inside = file.resolve().is_relative_to(folder.resolve())
    _is(inside and file.is_file(), at, "a file in the comparison's folder", run["turntable"])
    try:
        with Image.open(file) as picture:
            size, form = picture.size, picture.format
    except OSError:
        raise Wrong(f"{at} names {run['turntable']}, which is no picture") from None
    _is(form in ("WEBP", "PNG", "JPEG"), at, "a WebP, PNG or JPEG picture", form)
    rule = run["frames"] * run["size"], run["size"]
    _is(size == rule, at, f"a strip of {run['frames']} frames, {rule[0]} x {rule[1]} pixels", list(size))


def _is(right: bool, at: str, rule: str, value: Any) -> None:
    if not right:
        shown = json.dumps(value, default=str)
        raise Wrong(f"{at} is {shown if len(shown) <= 80 else shown[:80] + '…'}, which must be {rule}")


def _no_twin(values: list[Any], at: str) -> None:
    if twins := [value for i, value in enumerate(values) if value in values[:i]]:
        raise Wrong(f"{at} has {json.dumps(twins[0])} twice")
