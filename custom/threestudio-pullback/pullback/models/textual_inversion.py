"""Textual inversion: words that a file's embeddings teach to the text encoders of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .model_error import ModelError, first_sentence

KEY = "textual_inversion"
"""The argument, and the config key, that lists the files."""
_ENCODERS = {"clip_l": "", "clip_g": "_2"}
"""The ends of the parts' names, for the names that files with embeddings for two encoders have."""


def files(entries: Any) -> tuple[Path, ...]:
    """The files of a list of paths.

    Raises:
        ModelError: It is another kind of value, or a file holds no embeddings.
    """
    paths = [] if entries is None else [entries] if isinstance(entries, str | Path) else list(entries)
    if not all(isinstance(path, str | Path) for path in paths):
        raise ModelError("must be a list of files with embeddings, as [a.safetensors]", KEY)
    found = tuple(Path(path).expanduser() for path in paths)
    for file in found:
        words(file)
    return found


def teach(pipe: Any, files: tuple[Path, ...]) -> None:
    """Adds the words of files to the tokenizers and text encoders of a pipeline; diffusers does it.

    Raises:
        ModelError: They do not fit.
    """
    for file in files:
        for word, end, rows in words(file):
            tokenizer: Any = getattr(pipe, f"tokenizer{end}", None)
            encoder: Any = getattr(pipe, f"text_encoder{end}", None)
            if encoder is None or not hasattr(pipe, "load_textual_inversion"):
                raise ModelError(f"has {file}, which is for another kind of model; use one that was made for this", KEY)
            width = encoder.get_input_embeddings().weight.shape[-1]
            if rows.shape[-1] != width:
                raise ModelError(
                    f"has {file}, whose embeddings have {rows.shape[-1]} numbers, and the model's have {width}; use "
                    "one that was made for this model",
                    KEY,
                )
            if word in tokenizer.get_vocab():
                raise ModelError(f"has {file}, whose word {word!r} the model knows; use another one", KEY)
            pipe.load_textual_inversion(rows, token=word, tokenizer=tokenizer, text_encoder=encoder)


def words(file: Path) -> list[tuple[str, str, Tensor]]:
    """The words of a file: each with the end of its encoder's name, and its embeddings [n,D].

    Files of diffusers have the word as their key; those of other programs have the file's name for a word. What was
    pickled (.pt, .bin) is read as tensors alone, so that it can run no code.

    Raises:
        ModelError: It cannot be read, or holds something else.
    """
    if not file.is_file():
        raise ModelError(f"has {file}, which is no file; give one of embeddings", KEY)
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of the system, safetensors and PyTorch
        raise ModelError(f"has {file}, which cannot be read ({first_sentence(error)}); save it again", KEY) from error
    if isinstance(content, dict) and isinstance(content.get("string_to_param"), dict):
        content = {"emb_params": next(iter(content["string_to_param"].values()), None)}
    entries = content.items() if isinstance(content, dict) else ()
    rows = {name: value for name, value in entries if isinstance(value, Tensor)}
    if rows and rows.keys() <= _ENCODERS.keys():
        found = [(file.stem, _ENCODERS[name], value) for name, value in rows.items()]
    elif len(rows) == 1:
        ((name, value),) = rows.items()
        found = [(file.stem if name == "emb_params" else name, "", value)]
    else:
        found = []
    if not found or any(value.ndim not in (1, 2) for *_, value in found):
        raise ModelError(f"has {file}, which holds no embeddings of words; give a file of textual inversion", KEY)
    return [(word, end, value.reshape(-1, value.shape[-1]).float()) for word, end, value in found]
