"""The text encoders of a model, inside diffusers' pipeline for it."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from . import textual_inversion
from .libraries import class_of
from .model_error import AGAIN, ModelError
from .quantised import placed
from .reading import ModelFolder

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")
"""Files that hold a tokenizer's words; transformers 5 loads a tokenizer without any, and it then knows none."""
SENTENCEPIECE = ("spiece.model", "tokenizer.model")
TEXT_PARTS = ("tokenizer", "text_encoder")


class PipelineText:
    """Tokenizers and text encoders of a folder, read at the first use and kept until `release`.

    It is no nn.Module, so that no owner's checkpoint holds the weights.

    Args:
        folder: The model's.
        pipeline: Diffusers' class, whose `encode_prompt` embeds.
        device: Of the encoders.
        dtype: Of the encoders.
        networks: The pipeline's other networks by name, whose configs it may read.
    """

    def __init__(
        self,
        folder: ModelFolder,
        pipeline: str,
        device: torch.device,
        dtype: torch.dtype,
        networks: Mapping[str, Any],
    ):
        self.folder, self.pipeline, self.device, self.dtype = folder, pipeline, device, dtype
        self.networks = networks
        self._pipe: Any = None
        for part in self.parts():
            if part.startswith("tokenizer"):
                _check_vocabulary(folder, part)

    def parts(self) -> dict[str, tuple[str, str]]:
        """Library and class of each part, by its name."""
        index = self.folder.json("model_index.json")
        entries = {name: entry for name, entry in index.items() if name.startswith(TEXT_PARTS)}
        return {name: tuple(entry) for name, entry in entries.items() if isinstance(entry, list) and entry[-1]}

    def fingerprint(self) -> str:
        """Changes with what an embedding depends on."""
        return f"{self.pipeline} {self.dtype} {self.folder.fingerprint(self.parts())}"

    @contextmanager
    def loaded(self) -> Iterator[Any]:
        """A context with the pipeline, whose other parts are None; its errors are those of the text encoder."""
        with self.folder.reading("text_encoder"):
            if self._pipe is None:
                self._pipe = self._read()
            with torch.no_grad():
                yield self._pipe

    def check(self, pipe: Any, prompts: list[str]) -> None:
        """Checks that the encoders have an embedding for each token of some prompts.

        Args:
            pipe: The pipeline of `loaded`.
            prompts: The prompts.

        Raises:
            ModelError: One has not; on a GPU the call would end the process.
        """
        for name in self.parts():
            encoder = getattr(pipe, name.replace("tokenizer", "text_encoder"), None)
            if not name.startswith("tokenizer") or encoder is None:
                continue
            highest = max((token for row in getattr(pipe, name)(prompts)["input_ids"] for token in row), default=0)
            if highest >= (rows := len(encoder.get_input_embeddings().weight)):
                raise ModelError(
                    f"{self.folder.place(name)} has a token numbered {highest}, but its text encoder has {rows} "
                    f"embeddings; {AGAIN}, or save it after resize_token_embeddings"
                )

    def release(self) -> None:
        """Frees the encoders' memory; they are read again when they are needed."""
        self._pipe = None

    def _read(self) -> Any:
        found = dict(self.networks)
        for name, (library, kind) in self.parts().items():
            if not library.startswith("transformers"):
                raise ModelError(f"{self.folder.path} has a {name} of {library}; use one of transformers")
            if name.startswith("tokenizer"):
                found[name] = class_of(f"transformers.{kind}").from_pretrained(
                    str(self.folder.place(name)), local_files_only=True
                )
            else:
                found[name] = placed(self.folder.network(name, f"{library}.{kind}"), self.device, self.dtype)
        pipe = pipeline_of(self.pipeline, found, self.folder.json("model_index.json"))
        textual_inversion.teach(pipe, self.folder.embeddings)
        return pipe


def taught(tokenizer: Any, encoder: Any, files: tuple[Path, ...]) -> tuple[Callable[[], Any], Callable[..., Any]]:
    """Teaches the words of files of textual inversion to one CLIP encoder and its tokenizer.

    Returns:
        () -> the encoder, and prompts -> prompts in which a word of several embeddings is as many tokens.
    """
    pipe = pipeline_of("StableDiffusionPipeline", {"tokenizer": tokenizer, "text_encoder": encoder})
    with torch.no_grad():
        textual_inversion.teach(pipe, files)
    return lambda: encoder.requires_grad_(False), lambda prompts: pipe.maybe_convert_prompt(prompts, tokenizer)


def pipeline_of(name: str, parts: Mapping[str, Any], index: Mapping[str, Any] | None = None) -> Any:
    """A pipeline of diffusers with some of its parts; the others are None.

    Args:
        name: Its class.
        parts: Its parts.
        index: A folder's model_index.json, for the pipeline's options.
    """
    cls = class_of(f"diffusers.{name}")
    options: dict[str, Any] = {}
    for key, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
        value = (index or {}).get(key, parameter.default)  # a part is a list of its library and its class
        options[key] = parts.get(key, None if isinstance(value, list) or value is parameter.empty else value)
    return cls(**options | {key: False for key in ("requires_safety_checker",) if key in options})


def _check_vocabulary(folder: ModelFolder, part: str) -> None:
    place = folder.place(part)
    has = [name for name in VOCABULARIES if (place / name).is_file()]
    if not has:
        raise ModelError(f"{place} has no vocabulary ({', '.join(VOCABULARIES)}); {AGAIN}")
    if all(name in SENTENCEPIECE for name in has) and importlib.util.find_spec("sentencepiece") is None:
        raise ModelError(
            f"{place} has its vocabulary in {has[0]} alone, which needs the package sentencepiece; install it with "
            "`pip install sentencepiece`"
        )
