"""A model's networks from its config files: with random weights, or without any in a `FakeTensorMode`."""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

from ...errors import UserError
from ...models import ModelError, ModelFolder, families, resolve
from ...models.families.stable_diffusion import DiffusionModel
from ...models.schedulers import schedule_of
from ...resources import TINY_MODEL, find
from .facts import IDS, MODELS


@dataclass(frozen=True)
class Described(ModelFolder):
    """A model folder of which only the configs are read; the networks' weights are random.

    Attributes:
        title: What it is, in words.
    """

    title: str = ""

    def network(self, part: str, kind: str, dtype: torch.dtype | None = None) -> Any:
        """The network of a part's config, frozen, on PyTorch's present default device."""
        library, _, name = kind.rpartition(".")
        config = self.json(f"{part}/config.json")
        with self.reading(part), _default_dtype(dtype or torch.float32):
            network = getattr(importlib.import_module(library), config.get("_class_name", name)).from_config(config)
        if isinstance(next(network.parameters()), FakeTensor):
            network.to = lambda *args, **kwargs: network  # it is there, and PyTorch cannot move it
        return network.eval().requires_grad_(False)

    @property
    def text(self) -> tuple[int, int]:
        """Tokens of a prompt and the width of their embeddings."""
        tokens = self.json("text_encoder/config.json").get("max_position_embeddings", 77)
        return int(tokens), int(self.json("unet/config.json").get("cross_attention_dim", 1280))

    @property
    def text_parameters(self) -> int:
        """Parameters of the text encoders, by the sizes of CLIP's transformer (Radford et al. 2021)."""
        total = 0
        for part in self.json("model_index.json").keys() & {"text_encoder", "text_encoder_2"}:
            c = self.json(f"{part}/config.json")
            d, inner = c["hidden_size"], c["intermediate_size"]
            attention, norms = 4 * d * (d + 1), 4 * d
            block = attention + 2 * d * inner + inner + d + norms
            embeddings = (c["vocab_size"] + c["max_position_embeddings"]) * d
            total += embeddings + c["num_hidden_layers"] * block + 2 * d
        return total

    def model(self, device: torch.device, dtype: torch.dtype) -> DiffusionModel:
        """The model, with networks of that dtype.

        Raises:
            ModelError: The folder is of no family here.
        """
        with torch.device(device):
            if families.index_of(self, self.title).keys() >= {"text_encoder_2", "unet"}:
                model = _with_sizes(self, dtype)
            else:
                family = families.of(self, self.title)
                if family.load_text is None:
                    raise ModelError(
                        f"{self.title} is a {family.name} model, which a plan cannot count yet; give --model-config "
                        f"with one of {', '.join(MODELS)} that is about as large"
                    )
                model: Any = family.load(self, device, dtype)
        with _disable_current_modes():  # the noise levels are numbers that are read
            model.schedule = schedule_of(self)[0]
        return model


def describe(name: str, config: str | None, where: str, vae: str | None = None) -> Described:
    """The configs of a model, without a download.

    Args:
        name: The model's folder or id, as a config has it.
        config: A folder, or a name of `MODELS`, to take in its place.
        where: The config path of `name`, for errors.
        vae: The folder of another autoencoder.

    Raises:
        UserError: There is no such folder, and nothing is known of such a model.
    """
    other = {} if vae is None else {"vae": find(vae)}
    if vae is not None and not os.path.isdir(other["vae"]):
        raise UserError(f"`{where.rpartition('.')[0]}.vae` is {vae!r}, which is no folder; give one of an autoencoder")
    if config is not None and config not in MODELS:
        if not os.path.isdir(find(config)):
            raise UserError(f"--model-config {config} is no folder; give one, or {', '.join(MODELS)}")
        return Described(find(config), other=other, title=f"the configs of {config}")
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
    return Described(_written(known), other=other, title=f"a model of {known}'s size")


@functools.cache
def _written(known: str) -> Path:
    """A folder with a model's known configs; it is there as long as the process."""
    folder = Path(tempfile.mkdtemp(prefix="pullback-plan-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, content in MODELS[known].items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    shutil.copytree(TINY_MODEL / "tokenizer", folder / "tokenizer")  # one must be there; none of its words is read
    return folder


def _with_sizes(folder: Described, dtype: torch.dtype) -> DiffusionModel:
    """A model of Stable Diffusion XL's kind, whose network also takes pooled embeddings and the image's sizes.

    Source: Podell et al. 2023, section 2.2.
    """
    unet = folder.network("unet", "diffusers.UNet2DConditionModel", dtype)
    vae = folder.network("vae", "diffusers.AutoencoderKL", dtype)
    plain, numbers = unet.forward, 6
    pooled = unet.config.projection_class_embeddings_input_dim - numbers * unet.config.addition_time_embed_dim

    def forward(z: Tensor, *args: Any, **kwargs: Any) -> Any:
        more = {"text_embeds": z.new_zeros(len(z), pooled), "time_ids": z.new_zeros(len(z), numbers)}
        return plain(z, *args, added_cond_kwargs=more, **kwargs)

    unet.forward = forward
    schedule, prediction_type = schedule_of(folder)
    return DiffusionModel(unet, vae, cast(Any, None), schedule, prediction_type, lambda: "")


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
