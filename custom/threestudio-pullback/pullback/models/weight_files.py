"""A model's files: which of them there are, their digests, and the shapes of what they hold."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from . import quantised
from .model_error import AGAIN, ModelError, first_sentence

FILES = (".json", ".txt", ".model", ".safetensors")
"""How the names end of what is read."""
STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
"""Each library's name of a weight file."""
HALVES = ("fp16", "bf16")
"""Variants of weights in half precision, of folders that may have no others."""


def check_files(folder: Path) -> None:
    """Raises ModelError where what has the name of a model's file is a folder, or a link that leads nowhere."""
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        if path.suffix in FILES and not path.is_file():
            raise ModelError(f"{path} is no file that can be read; {AGAIN}")


def names(stem: str, variant: str | None) -> tuple[str, str]:
    """The name of a part's file, and of the index of several files.

    Args:
        stem: Of `STEMS`.
        variant: Of the weights, None for the plain ones.
    """
    mark = f".{variant}" if variant else ""
    return f"{stem}{mark}.safetensors", f"{stem}.safetensors.index{mark}.json"


def variants(place: Path, stem: str, asked: str | None) -> list[str | None]:
    """The variants of a part's weights that are there.

    Args:
        place: The part's folder.
        stem: Of `STEMS`.
        asked: The one that is asked for; None for the plain ones, or those in half precision.
    """
    among = [asked] if asked else [None, *HALVES]
    return [variant for variant in among if any((place / name).is_file() for name in names(stem, variant))]


def variant_of(place: Path, stem: str, asked: str | None) -> str | None:
    """The variant of a part's weights that is read; arguments as for `variants`.

    Raises:
        ModelError: There is none.
    """
    if found := variants(place, stem, asked):
        return found[0]
    pickled = any(place.glob("*.bin"))
    raise ModelError(
        f"{place} has no {names(stem, asked)[0]}"
        + (", only pickled .bin weights, not loaded because they can run code" if pickled else "")
        + "; save the model again with save_pretrained(..., safe_serialization=True)"
    )


def file_digest(file: Path) -> str:
    """SHA-256 of a file; the process keeps it until size or modification time change."""
    stat = file.stat()
    return _file_digest(file.resolve(), stat.st_size, stat.st_mtime_ns)


def shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a file of weights, by its name.

    Raises:
        ModelError: The file cannot be read.
    """
    try:
        if file.suffix == quantised.GGUF:
            return quantised.shapes(file)
        from safetensors import safe_open

        with safe_open(file, framework="pt") as stream:
            return {name: tuple(stream.get_slice(name).get_shape()) for name in stream.keys()}  # noqa: SIM118
    except Exception as error:  # of the system, and of safetensors, whose class is no subclass of one of Python's
        raise ModelError(f"{file} cannot be read ({first_sentence(error)}); {AGAIN}") from error


@functools.lru_cache(maxsize=256)
def _file_digest(file: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
