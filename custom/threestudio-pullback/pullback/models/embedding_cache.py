"""Embeddings of prompts on disk, keyed by the content of what made them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from .protocol import Conditioning, Prompts

CACHE = Path(".threestudio_cache/text_embeddings")
PLAIN = "embedding"


def embedded(
    prompts: list[str], embed: Callable[[str], Prompts], content: str | None, warn: Callable[..., None]
) -> dict[str, Prompts]:
    """The embedding of each prompt, [1,...], read from the cache where it is there.

    Args:
        prompts: Texts; one may come twice.
        embed: Text -> its embedding [1,...]. It is called with one at a time, since the last bit of an embedding must
            not depend on the others of a batch.
        content: The fingerprint of the text encoders; None for no cache.
        warn: (sentence with %s, its values) -> None.
    """
    table: dict[str, Prompts] = {}
    for prompt in dict.fromkeys(prompts):
        cached = None if content is None else _read(content, prompt)
        table[prompt] = embed(prompt) if cached is None else cached
        if content is not None and cached is None:
            _write(content, prompt, table[prompt], warn)
    return table


def _read(content: str, prompt: str) -> Prompts | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(_file(content, prompt))
    except (OSError, SafetensorError):
        return None
    if not tensors:
        return None
    rows = {name: tensor[None] for name, tensor in tensors.items()}
    return rows[PLAIN] if PLAIN in rows else Conditioning(rows)


def _write(content: str, prompt: str, embedding: Prompts, warn: Callable[..., None]) -> None:
    """Writes one safetensors file; a read-only folder costs time only."""
    from safetensors.torch import save

    file = _file(content, prompt)
    tensors = embedding.tensors if isinstance(embedding, Conditioning) else {PLAIN: embedding}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
    except OSError as error:
        warn("text embeddings are not cached: %s", error)
        return
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(save({name: tensor[0].contiguous() for name, tensor in tensors.items()}))
        os.replace(unfinished, file)
    except OSError as error:
        Path(unfinished).unlink(missing_ok=True)
        warn("text embeddings are not cached: %s", error)


def _file(content: str, prompt: str) -> Path:
    return CACHE / (hashlib.sha256(f"{content}\n{prompt}".encode()).hexdigest() + ".safetensors")
