"""A model in one file, as most are shared: the weights in their first layout, with the configs of a folder beside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import quantised
from .libraries import class_of, dtype_option
from .model_error import AGAIN, ModelError
from .reading import ModelFolder
from .weight_files import file_digest, shapes

ENDS = (".safetensors", quantised.GGUF)
KEY = "single_file_config"
"""The argument, and the config key, that names the folder of the configs."""
_PREFIXES = {
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.", "text_encoders."),
}
"""How the weights of a part begin; those of the network are all others."""


@dataclass(frozen=True)
class SingleFile(ModelFolder):
    """A file of weights, and the folder `path` with its configs, its tokenizers, and the parts that the file lacks.

    Diffusers converts the weights. A file of FLUX.1's layout, and every GGUF file, has the network alone; text encoders
    and autoencoder are then the folder's.

    Attributes:
        file: The weights.
    """

    file: Path = Path()

    @property
    def source(self) -> Path:
        """The file."""
        return self.file

    @property
    def has_own_text(self) -> bool:
        """True: nobody else finds text encoders at the file's path."""
        return True

    def origin(self, part: str) -> str:
        """The file, or the folder of a part that the file lacks."""
        return f"the {part} of {self.file}" if self._has(part) else super().origin(part)

    def read(self, part: str, kind: str, dtype: torch.dtype | None) -> tuple[Any, list[str]]:
        """A network, converted, and the names of weights that it lacks."""
        if not self._has(part):
            if not self.has_weights(part):
                raise ModelError(
                    f"is {self.path}, which has no weights for {part}, and {self.file} has none either; give a folder "
                    "that has them",
                    KEY,
                )
            return super().read(part, kind, dtype)
        with self.reading(part):
            import accelerate  # noqa: F401  # without it diffusers leaves missing weights random, and says nothing

            narrow = dtype or torch.float32
            network = self._diffusers(part, kind, narrow) if kind.startswith("diffusers.") else self._transformers(part)
            missing = [name for name, tensor in network.state_dict().items() if tensor.is_meta]  # diffusers leaves them
            if not missing and self.quantised(part):
                return quantised.restore(network, narrow), missing
            return (network if missing or dtype is None else network.to(dtype)), missing

    def _diffusers(self, part: str, kind: str, dtype: torch.dtype) -> Any:
        options: dict[str, Any] = {"config": str(self.path), "subfolder": part, "local_files_only": True}
        if self.quantised(part):
            options |= quantised.options(dtype) | dtype_option(dtype)
        network = class_of(kind)
        if not hasattr(network, "from_single_file"):
            raise ModelError(
                f"{self.file} would be the {part} of a {network.__name__}, which diffusers reads from folders alone; "
                "use the model's folder"
            )
        try:
            return network.from_single_file(str(self.file), **options)
        except NotImplementedError as error:  # of PyTorch, since weights without data cannot be moved
            raise ModelError(f"{self.origin(part)} lacks weights; {self._remedy(part)}") from error

    def _transformers(self, part: str) -> Any:
        """A text encoder, which only the pipeline can convert; all its other parts are left out."""
        index = self.json("model_index.json")
        parts = {name: None for name, value in index.items() if isinstance(value, list) and name != part}
        pipeline = class_of(f"diffusers.{index['_class_name']}")
        options: dict[str, Any] = {"config": str(self.path), "local_files_only": True, **dtype_option(torch.float32)}
        return getattr(pipeline.from_single_file(str(self.file), **options, **parts), part)

    def _remedy(self, part: str) -> str:
        """What helps where a part cannot be read; configs of another model are as likely as a damaged file."""
        return f"{AGAIN}, or give the configs of a model like it as {KEY}" if self._has(part) else super()._remedy(part)

    def fingerprint(self, components: Iterable[str]) -> str:
        """SHA-256 over the file and the folder's components, as 64 hex digits."""
        return f"{file_digest(self.file)[:32]}{super().fingerprint(components)[:32]}"

    def quantised(self, part: str) -> bool:
        """Whether a part's weights are quantised."""
        return self.file.suffix == quantised.GGUF if self._has(part) else super().quantised(part)

    def size(self, part: str) -> int:
        """Bytes of a part's weights in half precision, or as they are quantised."""
        return self.file.stat().st_size if self._has(part) and self.quantised(part) else super().size(part)

    def shapes(self, part: str) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor of a part, by its name."""
        if not self._has(part):
            return super().shapes(part)
        others = tuple(prefix for name, found in _PREFIXES.items() if not part.startswith(name) for prefix in found)
        return {name: shape for name, shape in shapes(self.file).items() if not name.startswith(others)}

    def _has(self, part: str) -> bool:
        if part in self.other:
            return False
        prefixes = next((found for name, found in _PREFIXES.items() if part.startswith(name)), None)
        return prefixes is None or any(name.startswith(prefixes) for name in shapes(self.file))


def usual_configs(file: Path) -> str:
    """The id of the model whose configs diffusers takes for a file of these weights.

    Raises:
        ModelError: They are no whole model's.
    """
    from diffusers.loaders.single_file_utils import fetch_diffusers_config

    sizes = shapes(file)
    if any("lora" in name for name in sizes):
        raise ModelError(f"{file} is a LoRA, which changes a model; name the model here, and the file as lora")
    tensors = {name: torch.empty(shape, device="meta") for name, shape in sizes.items()}
    return fetch_diffusers_config(tensors)["pretrained_model_name_or_path"]


def check_name(file: Path) -> None:
    """Raises ModelError for a file that has not the name of weights that are read, or needs a missing package."""
    if file.suffix not in ENDS:
        raise ModelError(
            f"{file} is a single file, but no {' or '.join(ENDS)} one; pickled weights (.ckpt, .pt, .bin) can run code "
            f"and are not read, so take the same model as {ENDS[0]}, or a folder in diffusers' format"
        )
    quantised.check_file(file)
