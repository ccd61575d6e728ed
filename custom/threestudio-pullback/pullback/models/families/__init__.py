"""Model families: each is one file here, which calls `register`; `of` says of which one a folder is.

A family outside this package calls `register` when it is imported.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from ..protocol import LatentModel
from ..reading import ModelError, ModelFolder
from ..text import TextEncoder

ANY = "any"
OTHERS = ("transformer", "text_encoder_2", "prior", "controlnet", "movq")
"""Parts that make a folder another model, whether or not a family here has them; further ones are ignored."""


@dataclass(frozen=True)
class Family:
    """One kind of model and how it is read.

    name: completes "use a … model". parts: of its folder, each with its class as model_index.json names it, or `ANY`;
    all must be there. load, load_text: from a folder that has these parts, to a device; load with the dtype of the
    networks. Both raise ModelError.
    """

    name: str
    parts: Mapping[str, str]
    load: Callable[[ModelFolder, torch.device, torch.dtype], LatentModel]
    load_text: Callable[[ModelFolder, torch.device], TextEncoder]

    def strange(self, index: Mapping[str, str], known: Iterable[str]) -> list[str]:
        """The parts of an index that keep its folder from being of this family; known: parts of any family."""
        other = [part for part in index if part not in self.parts and part in known]
        return other + [part for part, wanted in self.parts.items() if not _fits(part, index.get(part), wanted)]


_families: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Makes a family known; a second one of a name replaces the first."""
    _families[family.name] = family
    return family


def families() -> list[Family]:
    """All that are registered, with those of the files here."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return list(_families.values())


def known_parts() -> list[str]:
    """The parts that some family has."""
    return sorted({part for family in families() for part in family.parts})


def index_of(folder: ModelFolder, name: str) -> dict[str, str]:
    """The parts that a folder's model_index.json names, each with its class, and the pipeline's as "_class_name"."""
    entries = folder.json("model_index.json", f"{name!r} is no diffusers folder")
    parts = {key: str(value[-1]) for key, value in entries.items() if isinstance(value, list) and value and value[-1]}
    return parts | {"_class_name": str(entries.get("_class_name"))}


def of(folder: ModelFolder, name: str) -> Family:
    """The family of a folder; name: how messages call it.

    Raises:
        ModelError: a folder of no family, or an incomplete one.
    """
    index, known, there = index_of(folder, name), {*OTHERS, *known_parts()}, families()
    family, strange = min(((f, f.strange(index, known)) for f in there), key=lambda pair: len(pair[1]))
    if strange:
        kind, names = index["_class_name"], " or ".join(f.name for f in there)
        if "transformer" in index or "FlowMatch" in index.get("scheduler", ""):
            raise ModelError(
                f"{name!r} is a flow-matching model ({kind}), which is not supported yet; use a {names} model"
            )
        raise ModelError(f"{name!r} is a {kind}, whose {strange[0]} is not supported; use a {names} model")
    for part in family.parts:
        if not (folder.path / part).is_dir():
            raise ModelError(f"{name!r} is incomplete, it has no folder {part}; download it again")
    return family


def _fits(part: str, found: str | None, wanted: str) -> bool:
    if found is None or found in (wanted, wanted + "Fast"):
        return True
    return wanted == ANY and not (part == "scheduler" and "FlowMatch" in found)
