"""Reads the parts of a model folder in diffusers' format; a part that cannot be read is one sentence."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from . import quantised
from .libraries import class_of, dtype_option, reading
from .model_error import AGAIN, ModelError, first_sentence
from .numbers import check_numbers
from .saved_by import remedy
from .treatment import Change, Kept
from .weight_files import STEMS, file_digest, names, shapes, variant_of, variants

TEXT_COMPONENTS = tuple(f"{part}{number}" for part in ("tokenizer", "text_encoder") for number in ("", "_2", "_3"))

HALF = 2
"""Bytes of a weight in half precision."""


@dataclass(frozen=True)
class ModelFolder:
    """The folder of a model.

    Attributes:
        path: The folder.
        variant: Of the weight files, such as "fp16"; None for the plain ones, or those in half
            precision where there are no plain ones.
        other: Folders of parts, by name, that take the place of the folder's own.
        changes: What is done to each network, in this order.
        embeddings: Files of textual inversion, whose words the text encoders learn.
        kept: How the networks are kept once they are read.
    """

    path: Path
    variant: str | None = None
    other: Mapping[str, Path] = field(default_factory=dict[str, Path])
    changes: tuple[Change, ...] = ()
    embeddings: tuple[Path, ...] = ()
    kept: Kept = field(default_factory=Kept)

    @property
    def source(self) -> Path:
        """What a user named: the folder itself."""
        return self.path

    @property
    def has_own_text(self) -> bool:
        """Whether the text encoders differ from those that other readers of `source` find."""
        return bool(self.changes or self.embeddings)

    def place(self, part: str) -> Path:
        """The folder of a part."""
        return self.other.get(part, self.path / part)

    def origin(self, part: str) -> str:
        """Where the weights of a part come from, for messages."""
        return str(self.place(part))

    def json(self, file: str, otherwise: str = "") -> dict[str, Any]:
        """A JSON object of the folder.

        Args:
            file: Its path in the folder.
            otherwise: The fault to report where the file is missing.

        Raises:
            ModelError: The file is missing, unreadable, or no object.
        """
        part, _, name = file.partition("/")
        path = self.place(part) / name if name else self.path / file
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(
                f"{otherwise or f'{path.parent} is incomplete'} (it has no {path.name}); give a folder written by "
                "diffusers' save_pretrained"
            ) from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} cannot be read ({first_sentence(error)}); {AGAIN}") from error
        if not isinstance(value, dict):
            raise ModelError(f"{path} is no JSON object; {AGAIN}")
        return value

    def network(self, part: str, kind: str, dtype: torch.dtype | None = None) -> Any:
        """One frozen network in evaluation mode, on the CPU, from safetensors.

        Args:
            part: Its folder.
            kind: Its library and class, such as "diffusers.AutoencoderKL", and earlier names of the class, joined by
                "|"; any library but transformers must have diffusers' `from_pretrained`.
            dtype: Of its weights; by default float32, or the file's with transformers.

        Raises:
            ModelError: The folder's config has another class or wrong numbers, or files or weights lack or do not fit.
        """
        place, config = self.place(part), self.json(f"{part}/config.json")
        kind, *others = kind.split("|")
        name = kind.rpartition(".")[-1]
        if config.get("_class_name", name) not in (name, *others):
            raise ModelError(f"{place} holds a {config['_class_name']}, not the {name} of a model like this; {AGAIN}")
        quantised.check_folder(place, config, kind)
        network, missing = self.read(part, kind, dtype)
        if missing:
            lacking = f"{len(missing)} weights (the first is {missing[0]})"
            raise ModelError(f"{self.origin(part)} lacks {lacking}; {self._remedy(part)}")
        check_numbers(network, config, str(place))
        for change in self.changes:
            change.apply(self, part, network)
        return network.eval().requires_grad_(False)

    def read(self, part: str, kind: str, dtype: torch.dtype | None) -> tuple[Any, list[str]]:
        """A network, as `network` has it, and the names of weights that it lacks."""
        root, place = kind.partition(".")[0], self.place(part)
        options: dict[str, Any] = {"variant": variant_of(place, STEMS.get(root, STEMS["diffusers"]), self.variant)}
        if root != "transformers":
            options |= {"use_safetensors": True, **({} if dtype is None else dtype_option(dtype))}
            options |= self.kept.options(part, dtype or torch.float32)
        with self.reading(part):
            network, info = class_of(kind).from_pretrained(
                str(place), local_files_only=True, output_loading_info=True, **options
            )
        # position_ids were saved by old versions and are computed by new ones
        return network, sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))

    def weights(self, part: str) -> dict[str, torch.Tensor]:
        """All tensors of a part of diffusers', by name, from one safetensors file or several.

        Raises:
            ModelError: Files are missing or cannot be read.
        """
        place, stem = self.place(part), STEMS["diffusers"]
        whole, index = names(stem, variant_of(place, stem, self.variant))
        with self.reading(part):
            from safetensors.torch import load_file

            several = not (place / whole).is_file()
            files = sorted({*self.json(f"{part}/{index}")["weight_map"].values()}) if several else [whole]
            return {name: tensor for file in files for name, tensor in load_file(place / file).items()}

    def shapes(self, part: str) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor of a part, by its name."""
        files = sorted(self.place(part).glob("*.safetensors"))
        return {name: shape for file in files for name, shape in shapes(file).items()}

    def quantised(self, part: str) -> bool:
        """Whether a part's weights are quantised."""
        return quantised.method(self.json(f"{part}/config.json")) is not None

    def size(self, part: str) -> int:
        """Bytes of a part's weights in half precision, or as they are quantised."""
        if self.quantised(part):
            return sum(file.stat().st_size for file in self.place(part).glob("*.safetensors"))
        return HALF * sum(map(math.prod, self.shapes(part).values()))

    def has_weights(self, part: str) -> bool:
        """Whether there are weights that can be read, or the part is none that has any."""
        place = self.place(part)
        return not (place / "config.json").is_file() or any(
            variants(place, stem, self.variant) for stem in STEMS.values()
        )

    def reading(self, part: str) -> AbstractContextManager[None]:
        """A context to read a part in, without warnings and progress bars; a library's error becomes a ModelError."""
        return reading(self.origin(part), lambda: self._remedy(part))

    def _remedy(self, part: str) -> str:
        """What helps where a part cannot be read."""
        encoder = part.replace("tokenizer", "text_encoder")
        place = self.place(encoder) / "config.json"
        return remedy(self.json(f"{encoder}/config.json")) if "text_encoder" in encoder and place.is_file() else AGAIN

    def fingerprint(self, components: Iterable[str]) -> str:
        """SHA-256 over names and contents of the components' configs and safetensors, as 64 hex digits.

        The process keeps the digest of a file until its size or modification time changes.
        """
        digest = hashlib.sha256()
        for component in sorted(components):
            for file in sorted(self.place(component).glob("*")):
                if file.suffix in (".json", ".txt", ".safetensors"):
                    digest.update(f"{component}/{file.name} {file_digest(file)}\n".encode())
        for change in (*(c.fingerprint() for c in self.changes), *map(file_digest, self.embeddings)):
            digest.update(f"{change}\n".encode())
        return digest.hexdigest()
