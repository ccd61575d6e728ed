"""Model families: each is one file here, which calls `register`; `of` returns the family of a folder.

A family outside this package calls `register` when it is imported.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch

from .. import schedulers
from ..model_error import ModelError
from ..protocol import LatentModel
from ..reading import ModelFolder
from ..text import TextEncoder

ANY = "any"
FLOW = "flow"
"""The scheduler of a model that is trained with flow matching."""
OTHERS = ("transformer", "text_encoder_2", "prior", "controlnet", "movq")
"""Parts that make a folder another model, even if no family here has them; all other parts are ignored."""


@dataclass(frozen=True)
class Family:
    """One kind of model, and the functions that load it.

    Attributes:
        name: Completes "use a … model".
        parts: The parts of its folder, each with its class as in model_index.json, classes joined by "|", `ANY`, or
            `FLOW` for a scheduler; all must be there.
        load: (folder, device, dtype of the networks) -> the model; raises ModelError.
        load_text: (folder, device) -> its text encoder; raises ModelError. None for a family that embeds
            prompts itself.
        optional: Parts that may be there, as `parts`.
        pipeline: Diffusers' class of pipelines, which decides where the parts leave a choice.
        half: The half precision that its networks stand.
    """

    name: str
    parts: Mapping[str, str]
    load: Callable[[ModelFolder, torch.device, torch.dtype], LatentModel]
    load_text: Callable[[ModelFolder, torch.device], TextEncoder] | None = None
    optional: Mapping[str, str] = field(default_factory=dict[str, str])
    pipeline: str = ""
    half: torch.dtype = torch.float16

    def strange(self, index: Mapping[str, str], parts: Iterable[str]) -> list[str]:
        """The parts of a folder's index that do not belong to this family, of `parts` of any family."""
        own = {**self.parts, **self.optional}
        other = [part for part in index if part not in own and part in parts]
        return other + [part for part, kind in own.items() if not _fits(part, index.get(part), kind)]


_families: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Adds a family; it replaces an earlier one with its name."""
    _families[family.name] = family
    return family


def families() -> list[Family]:
    """All families, those of the files here included."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return list(_families.values())


def all_parts() -> list[str]:
    """The parts that some family has."""
    return sorted({part for family in families() for part in (*family.parts, *family.optional)})


def index_of(folder: ModelFolder, name: str) -> dict[str, str]:
    """The parts in a folder's model_index.json, each with its class, and the pipeline's class as "_class_name"."""
    entries = folder.json("model_index.json", f"{name!r} is no diffusers folder")
    parts = {key: str(value[-1]) for key, value in entries.items() if isinstance(value, list) and value and value[-1]}
    return parts | {"_class_name": str(entries.get("_class_name"))}


def of(folder: ModelFolder, name: str) -> Family:
    """The family of a folder.

    Args:
        folder: The model's.
        name: Its name in messages.

    Raises:
        ModelError: The folder is of no family here, or incomplete.
    """
    index, parts, choices = index_of(folder, name), {*OTHERS, *all_parts()}, families()
    schedulers.check_class(index.get("scheduler", ""), repr(name))
    order = ((len(f.strange(index, parts)), f.pipeline != index["_class_name"], at) for at, f in enumerate(choices))
    family = choices[min(order)[-1]]
    strange = family.strange(index, parts)
    if strange:
        kind, own = index["_class_name"], [f.name for f in choices]
        names = " or ".join([", ".join(own[:-1]), own[-1]] if len(own) > 1 else own)
        if "FlowMatch" in index.get("scheduler", ""):
            raise ModelError(
                f"{name!r} is a flow-matching model ({kind}), which is not supported with its {strange[0]}; use a "
                f"{names} model"
            )
        raise ModelError(f"{name!r} is a {kind}, whose {strange[0]} is not supported; use a {names} model")
    for part in family.parts:
        if part not in index:  # as in a refiner of SDXL, which has one of two text encoders
            raise ModelError(
                f"{name!r} is a {index['_class_name']} without a {part}, which a {family.name} model has; use another"
            )
        if not (folder.path / part).is_dir():
            raise ModelError(f"{name!r} is incomplete, it has no folder {part}; download it again")
    return family


def _fits(part: str, name: str | None, kind: str) -> bool:
    """Whether the class `name` of a folder's part, None where it is not there, is the family's `kind`."""
    if name is None or kind == FLOW or any(name in (one, f"{one}Fast") for one in kind.split("|")):
        return True
    return kind == ANY and not (part == "scheduler" and "FlowMatch" in name)
