"""Read the parts of a model folder in diffusers' format; whatever keeps one from being read is one sentence."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError

INSTALL = "pip install diffusers transformers safetensors accelerate"
AGAIN = "copy or download the model again"
STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
"""How each library names a weight file."""
TEXT_COMPONENTS = tuple(f"{part}{number}" for part in ("tokenizer", "text_encoder") for number in ("", "_2", "_3"))


class ModelError(UserError):
    """What keeps a model from being loaded or used.

    argument: of the Python call that is wrong, where it is one; it begins the sentence. Otherwise that begins with the
    folder or file. A caller that knows the config key puts it in front, see `config_key`.
    """

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__(f"{argument} {message}" if argument else message)
        self.message, self.argument = message, argument


@contextmanager
def config_key(path: str) -> Iterator[None]:
    """Puts a config key, or a command's option, in front of what a ModelError says.

    path: of the key that names the model. For an option of that model, a key of the same block is put instead.
    """
    try:
        yield
    except ModelError as error:
        block, _, key = path.rpartition(".")
        if error.argument is None:
            raise UserError(f"`{path}`: {error.message}") from error
        key = key if error.argument == "name_or_path" else error.argument
        raise UserError(f"`{block}.{key}` {error.message}" if block else f"`{key}` {error.message}") from error


@dataclass(frozen=True)
class ModelFolder:
    """The folder of a model. variant: of the weight files, such as "fp16"; None: the plain ones where there are any."""

    path: Path
    variant: str | None = None

    def json(self, file: str, otherwise: str = "") -> dict[str, Any]:
        """A JSON object of the folder; otherwise: what is wrong where the file is missing.

        Raises:
            ModelError: file missing, unreadable, or no object.
        """
        path = self.path / file
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
            part: its folder.
            kind: its library and class, "diffusers.AutoencoderKL"; of a library that is not transformers, it must
                have diffusers' `from_pretrained`.
            dtype: of its weights, by default float32, or with transformers that of the file.

        Raises:
            ModelError: another class in the folder's config, files missing, weights missing or not fitting.
        """
        library, _, name = kind.rpartition(".")
        config, place = self.json(f"{part}/config.json"), self.path / part
        if config.get("_class_name", name) != name:
            raise ModelError(f"{place} holds a {config['_class_name']}, not the {name} of a model like this; {AGAIN}")
        options: dict[str, Any] = {"variant": self._variant(place, STEMS.get(library, STEMS["diffusers"]))}
        if library != "transformers":
            options |= {"use_safetensors": True, **({} if dtype is None else dtype_option(dtype))}
        with self.reading(part):
            network, info = getattr(importlib.import_module(library), name).from_pretrained(
                str(self.path), subfolder=part, local_files_only=True, output_loading_info=True, **options
            )
        # position_ids were saved by old versions and are computed by new ones
        missing = sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))
        if missing:
            raise ModelError(f"{place} lacks {len(missing)} weights (the first is {missing[0]}); {AGAIN}")
        return network.eval().requires_grad_(False)

    def _variant(self, place: Path, stem: str) -> str | None:
        for variant in [self.variant] if self.variant else [None, "fp16"]:
            mark = f".{variant}" if variant else ""
            names = f"{stem}{mark}.safetensors", f"{stem}.safetensors.index{mark}.json"
            if any((place / name).is_file() for name in names):
                return variant
        mark = f".{self.variant}" if self.variant else ""
        pickled = any(place.glob("*.bin"))
        raise ModelError(
            f"{place} has no {stem}{mark}.safetensors"
            + (", only pickled .bin weights, not loaded because they can run code" if pickled else "")
            + "; save the model again with save_pretrained(..., safe_serialization=True)"
        )

    @contextmanager
    def reading(self, part: str) -> Iterator[None]:
        """No warnings and progress bars; whatever a library raises while it reads the part becomes a ModelError."""
        try:
            with quiet():
                yield
        except (UserError, MemoryError):
            raise
        except ImportError as error:
            raise missing_package(error) from error
        except Exception as error:  # diffusers, transformers and safetensors each raise their own
            found = f"{type(error).__name__}: {first_sentence(error)}"
            raise ModelError(f"{self.path / part} cannot be loaded ({found}); {AGAIN}") from error

    def fingerprint(self, components: Iterable[str]) -> str:
        """SHA-256 over names and contents of configs and safetensors, as 64 hex digits.

        File digests are kept for the life of the process as long as a file's size and modification time stay.
        """
        digest = hashlib.sha256()
        for component in sorted(components):
            for file in sorted((self.path / component).glob("*")):
                if file.suffix in (".json", ".txt", ".safetensors"):
                    stat = file.stat()
                    content = _file_digest(file.resolve(), stat.st_size, stat.st_mtime_ns)
                    digest.update(f"{component}/{file.name} {content}\n".encode())
        return digest.hexdigest()


@functools.lru_cache(maxsize=256)
def _file_digest(file: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def dtype_option(dtype: torch.dtype) -> dict[str, torch.dtype]:
    """The keyword of diffusers' from_pretrained: `torch_dtype` until 0.41, then deprecated for `dtype`."""
    import diffusers

    major, minor = diffusers.__version__.split(".")[:2]
    return {"dtype" if (int(major), int(minor)) >= (0, 42) else "torch_dtype": dtype}


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and progress bars of diffusers and transformers, whose settings are put back afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # transformers first: importing diffusers makes it warn
            from transformers.utils import logging as first

            verbosity, bars = first.get_verbosity(), first.is_progress_bar_enabled()
            first.set_verbosity_error()
            first.disable_progress_bar()
            from diffusers.utils import logging as second
        except ImportError as error:
            raise missing_package(error) from error
        loud = second.get_verbosity()
        second.set_verbosity_error()
        try:
            yield
        finally:
            first.set_verbosity(verbosity)
            second.set_verbosity(loud)
            if bars:
                first.enable_progress_bar()


def missing_package(error: ImportError) -> UserError:
    """The sentence for a package of the `models` extra that is not installed."""
    return UserError(f"Diffusion models need the package {error.name or error}, which is not installed; run {INSTALL}")


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error's message, on one line."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.split(". ")[0][:200].rstrip(".")
