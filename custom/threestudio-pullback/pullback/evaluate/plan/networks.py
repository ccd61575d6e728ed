"""A model's networks from its config files: with random weights, or without any in a `FakeTensorMode`."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

from ...errors import UserError
from ...models import LatentModel, ModelError, ModelFolder, families, resolve
from ...models.libraries import class_of
from ...models.memory import NETWORKS
from ...models.protocol import Conditioning, Prompts
from ...models.quantised import GGUF
from ...models.schedulers import schedule_of_unet
from ...resources import TINY_MODEL, find
from .facts import IDS, MODELS

PROMPT = "an object"


@dataclass(frozen=True)
class Described(ModelFolder):
    """A model folder of which only configs and tokenizers are read; the networks' weights are random.

    Attributes:
        title: What it is, in words.
        dtype: Of networks whose reader leaves it open, as those of text encoders.
        file: The weights, where they are one file beside the configs.
        parameters: Of each network that has been made, by its part.
        embeddings_of: Shape and dtype of a prompt's tensors, by name, once the family has embedded one.
    """

    title: str = ""
    dtype: torch.dtype = torch.float32
    file: Path | None = None
    parameters: dict[str, int] = field(default_factory=dict[str, int])
    embeddings_of: dict[str, tuple[Any, torch.dtype]] = field(default_factory=dict[str, Any])

    def network(self, part: str, kind: str, dtype: torch.dtype | None = None) -> Any:
        """The network of a part's config, frozen, on PyTorch's present default device."""
        library, _, name = kind.partition("|")[0].rpartition(".")
        config = self.json(f"{part}/config.json")
        with self.reading(part), _default_dtype(dtype or self.dtype):
            cls = class_of(f"{library}.{config.get('_class_name', name)}")
            if library.startswith("transformers"):
                network = cls(cls.config_class.from_pretrained(str(self.place(part)), local_files_only=True))
            else:
                network = cls.from_config(config)
        if isinstance(next(network.parameters()), FakeTensor):
            network.to = lambda *args, **kwargs: network  # it is there, and PyTorch cannot move it
        self.parameters[part] = sum(p.numel() for p in network.parameters())
        return network.eval().requires_grad_(False)

    @property
    def quantised_size(self) -> int | None:
        """Bytes of the network's weights as they are quantised; None for plain ones, and where they are not there."""
        if self.file is not None:
            return self.file.stat().st_size if self.file.suffix == GGUF else None
        part = next((part for part in NETWORKS if (self.place(part) / "config.json").is_file()), None)
        return self.size(part) or None if part and self.quantised(part) else None

    @property
    def text_parameters(self) -> int:
        """Parameters of the text encoders; one that was not made is CLIP's transformer (Radford et al. 2021)."""
        made = [count for part, count in self.parameters.items() if part.startswith("text_encoder")]
        if made:
            return sum(made)
        c = self.json("text_encoder/config.json")
        d, inner = c["hidden_size"], c["intermediate_size"]
        attention, norms = 4 * d * (d + 1), 4 * d
        block = attention + 2 * d * inner + inner + d + norms
        return (c["vocab_size"] + c["max_position_embeddings"]) * d + c["num_hidden_layers"] * block + 2 * d

    def model(self, device: torch.device, dtype: torch.dtype) -> LatentModel:
        """The model, with networks of that dtype.

        Raises:
            ModelError: The folder is of no family here.
        """
        family = families.of(self, self.title)
        with torch.device(device):
            model: Any = family.load(replace(self, dtype=dtype), device, dtype)
        with _disable_current_modes():  # the noise levels are numbers that are read
            model.schedule = getattr(model, "levels", schedule_of_unet)(self)[0]
        return model

    @property
    def tokens(self) -> int:
        """Of a prompt that a family has embedded, padded; 1 where none has."""
        return max([size[0] for size, _ in self.embeddings_of.values() if len(size) > 1], default=1)

    def prompts(self, model: Any, count: int, device: torch.device | None = None) -> Prompts:
        """As many prompts as `count`, of the shapes that the model's own embeddings have.

        Args:
            model: What `model` has made.
            count: How many.
            device: Theirs; the CPU by default.
        """
        if not model.embeds_prompts:
            tokens = self.json("text_encoder/config.json").get("max_position_embeddings", 77)
            return torch.zeros(count, int(tokens), model.network.config.cross_attention_dim, device=device)
        if not self.embeddings_of:
            tensors = model.encode_prompt([PROMPT]).tensors
            model.text.release()
            self.embeddings_of.update({name: (rows.shape[1:], rows.dtype) for name, rows in tensors.items()})
        shapes = self.embeddings_of.items()
        return Conditioning({name: torch.ones(count, *size, dtype=dtype) for name, (size, dtype) in shapes})


def describe(
    name: str, config: str | None, where: str, vae: str | None = None, configs_of_file: str | None = None
) -> Described:
    """The configs of a model, without a download.

    Args:
        name: The model's folder, file or id, as a config has it.
        config: A folder, or a name of `MODELS`, to take in its place.
        where: The config path of `name`, for errors.
        vae: The folder of another autoencoder.
        configs_of_file: The folder with the configs of a model in one file, `single_file_config`.

    Raises:
        UserError: There is no such folder, and nothing is known of such a model.
    """
    file = find(name) if name and os.path.isfile(find(name)) else None
    if file is not None and config is None:
        if configs_of_file and not os.path.isdir(find(configs_of_file)):
            raise UserError(
                f"`{where.rpartition('.')[0]}.single_file_config` is {configs_of_file!r}, which is no folder here, and "
                "a plan downloads nothing; give a folder that has the model's configs"
            )
        if not configs_of_file:
            raise UserError(
                f"`{where}` is {name!r}, one file, and a plan needs its configs; give --model-config or "
                "`single_file_config` with a folder that has them"
            )
        config = configs_of_file
    other = {} if vae is None else {"vae": find(vae)}
    if vae is not None and not os.path.isdir(other["vae"]):
        raise UserError(f"`{where.rpartition('.')[0]}.vae` is {vae!r}, which is no folder; give one of an autoencoder")
    if config is not None and config not in MODELS:
        if not os.path.isdir(find(config)):
            raise UserError(f"--model-config {config} is no folder; give one, or {', '.join(MODELS)}")
        return Described(find(config), other=other, title=f"the configs of {config}", file=file)
    known = config or IDS.get(name)
    if config is None:
        try:
            return Described(resolve(name, local_files_only=True), other=other, title=f"the model {name}")
        except ModelError as error:
            if known is None:
                raise UserError(
                    f"`{where}` is {name!r}, of which there is no folder here, and a plan downloads nothing; give "
                    f"--model-config with a folder that has the model's configs, or {', '.join(MODELS)}"
                ) from error
    assert known is not None
    return Described(_written(known), other=other, title=f"a model of {known}'s size", file=file)


@functools.cache
def _written(known: str) -> Path:
    """A folder with a model's known configs; it is there as long as the process."""
    folder = Path(tempfile.mkdtemp(prefix="pullback-plan-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, content in MODELS[known].items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    for name in ("tokenizer", "tokenizer_2"):  # of any words, and of a real one's length
        shutil.copytree(TINY_MODEL / "tokenizer", folder / name)
        file = folder / name / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 77}))
    return folder


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
