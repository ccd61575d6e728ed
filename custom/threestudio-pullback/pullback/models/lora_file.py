"""LoRA files, merged into the networks of a model as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..errors import UserError
from .libraries import class_of, quiet
from .model_error import ModelError, first_sentence
from .pipeline_text import pipeline_of
from .quantised import is_quantised
from .reading import ModelFolder
from .weight_files import file_digest, shapes

KEY = "lora"
"""The argument, and the config key, that lists the files."""
DOWN = (".lora_A.weight", ".down.weight")
"""How the names of one of a layer's two matrices end, once diffusers has translated them."""


@dataclass(frozen=True)
class LoRAFile:
    """W becomes W + scale · (alpha / rank) · up down, in every layer that the file has matrices for.

    Diffusers translates the names, peft merges; the networks then have as many weights as before, and no layer more.
    Source: Hu et al. 2021.

    Args:
        path: A safetensors file with diffusers' names or kohya's.
        scale: Its weight.
    """

    path: Path
    scale: float = 1.0

    def fingerprint(self) -> str:
        """Changes with the file's content and the scale."""
        return f"{file_digest(self.path)} {self.scale}"

    def check(self, folder: ModelFolder, parts: Mapping[str, Any]) -> None:
        """Checks the file before a network is read.

        Args:
            folder: The model's.
            parts: The model's, by name.

        Raises:
            ModelError: It is no LoRA, or none for a model with these parts.
        """
        try:
            import peft  # noqa: F401  # which diffusers merges with
        except ImportError as error:
            raise ModelError("needs the package peft; install it with `pip install peft`", KEY) from error
        if not self.path.is_file():
            raise ModelError(f"has {self.path}, which is no file; give the .safetensors file of a LoRA", KEY)
        if self.path.suffix != ".safetensors":
            raise ModelError(f"has {self.path}, and only .safetensors files are read, since others can run code", KEY)
        try:
            names = shapes(self.path)
        except ModelError as error:
            raise ModelError(f"has a damaged file: {error.message}", KEY) from error
        if any("dora_scale" in name for name in names):
            raise ModelError(f"has {self.path}, a DoRA, which diffusers reads in part only; use a plain LoRA", KEY)
        changed = {name.partition(".")[0] for name in self._state(folder)[0]}
        if strange := sorted(changed - parts.keys()):
            raise ModelError(
                f"has {self.path}, which changes {', '.join(strange)}, and the model has {', '.join(parts)}; use a "
                "LoRA that was made for it",
                KEY,
            )

    def apply(self, folder: ModelFolder, part: str, network: Any) -> None:
        """Merges the file into one network."""
        state, alphas, metadata = self._state(folder)
        own = [name for name in state if name.startswith(f"{part}.")]
        if not own:
            return
        if is_quantised(network):
            raise ModelError(
                f"has {self.path}, which cannot be merged into the quantised weights of the model's {part}; leave it "
                "out, or use the model's plain weights",
                KEY,
            )
        wanted = sum(name.endswith(DOWN) for name in own)
        try:
            with quiet():
                pipe = pipeline_of(_pipeline(folder), {part: network})
                if part.startswith("text_encoder"):
                    load = type(pipe).load_lora_into_text_encoder
                    load(state, network_alphas=alphas, text_encoder=network, prefix=part, metadata=metadata)
                else:
                    network.load_lora_adapter(state, prefix=part, network_alphas=alphas, metadata=metadata)
                count = sum(hasattr(module, "lora_A") for module in network.modules())
                if count == wanted:
                    pipe.fuse_lora(components=[part], lora_scale=self.scale)
                    pipe.unload_lora_weights()
        except Exception as error:  # peft, diffusers and PyTorch each raise their own
            raise self._unfit(part, first_sentence(error)) from error
        if count != wanted:
            raise self._unfit(part, f"{count} of its {wanted} layers are there")

    def _unfit(self, part: str, reason: str) -> ModelError:
        return ModelError(f"has {self.path}, which does not fit the model's {part} ({reason}); use another LoRA", KEY)

    def _state(self, folder: ModelFolder) -> tuple[dict[str, Any], Any, Any]:
        """The file's matrices by diffusers' names, its alphas and its description."""
        cls: Any = class_of(f"diffusers.{_pipeline(folder)}")
        options: dict[str, Any] = {"return_lora_metadata": True, "return_alphas": True, "use_safetensors": True}
        if (folder.place("unet") / "config.json").is_file():  # by which the blocks of some files are numbered
            options["unet_config"] = SimpleNamespace(**{"layers_per_block": 2, **folder.json("unet/config.json")})
        try:
            with quiet():
                found = cls.lora_state_dict(str(self.path), **options)
        except UserError:
            raise
        except Exception as error:  # of whatever names it meets
            reason = first_sentence(error)
            raise ModelError(f"has {self.path}, which is no LoRA for diffusers ({reason}); use another", KEY) from error
        state, alphas, metadata = found if len(found) == 3 else (found[0], None, found[1])
        if not state or not all("lora" in name for name in state):
            raise ModelError(f"has {self.path}, which is no LoRA; give one as diffusers or kohya's scripts save", KEY)
        return state, alphas, metadata


def files(entries: Any) -> tuple[LoRAFile, ...]:
    """The files of a list of {path, scale}.

    Raises:
        ModelError: It is another kind of value.
    """
    found = []
    for entry in [] if entries is None else entries:
        entry = dict(entry) if isinstance(entry, Mapping) else {}
        path, scale = entry.pop("path", None), entry.pop("scale", 1.0)
        if entry or not isinstance(path, str | Path) or not isinstance(scale, int | float) or isinstance(scale, bool):
            raise ModelError("must be a list with {path: FILE, scale: NUMBER} for each file", KEY)
        found.append(LoRAFile(Path(path).expanduser(), float(scale)))
    return tuple(found)


def _pipeline(folder: ModelFolder) -> str:
    """Diffusers' class of pipelines for a folder; Stable Diffusion's for folders of classes of their own."""
    import diffusers

    name = str(folder.json("model_index.json").get("_class_name"))
    return name if hasattr(getattr(diffusers, name, None), "lora_state_dict") else "StableDiffusionPipeline"
