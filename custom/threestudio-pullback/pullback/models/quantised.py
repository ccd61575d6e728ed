"""Quantised weights: what is read of them, and what cannot be done with them once they are."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .libraries import class_of
from .model_error import ModelError

GGUF = ".gguf"
"""How the names of files end whose weights are quantised in GGML's ways."""
FOLDERS = "bitsandbytes"
"""The method of quantisation of folders that are read."""
_KEY = "quantization_config"


def method(config: Mapping[str, Any]) -> str | None:
    """The method that a part's weights are quantised with, by its config; None for plain weights."""
    how = config.get(_KEY)
    return str(how.get("quant_method", "some method")) if isinstance(how, dict) else None


def check_folder(place: Path, config: Mapping[str, Any], kind: str) -> None:
    """Checks that quantised weights of a folder can be read here, if the folder's are.

    Args:
        place: The part's folder.
        config: The part's.
        kind: Library and class of the network.

    Raises:
        ModelError: The method is another one, its package is missing, or it needs a GPU and there is none.
    """
    how = method(config)
    if how is None:
        return
    if how != FOLDERS:
        raise ModelError(
            f"{place} has weights quantised with {how}, which are not read; use the plain ones, those of {FOLDERS}, or "
            f"a {GGUF} file"
        )
    _check_package(FOLDERS, str(place))
    logging.getLogger(FOLDERS).setLevel(logging.ERROR)  # 8 bits warn in each layer at each call
    if kind.startswith("diffusers.") and not has_gpu():
        raise ModelError(
            f"{place} has weights quantised with {FOLDERS}, which diffusers reads on a machine with a GPU alone, and "
            f"PyTorch finds none here; use the plain ones, or a {GGUF} file"
        )


def check_file(file: Path) -> None:
    """Raises ModelError where a file has quantised weights, and the package that reads them is missing."""
    if file.suffix == GGUF:
        _check_package("gguf", str(file))


def shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a GGUF file, by its name, as if it were not quantised."""
    from gguf import GGUFReader

    return {tensor.name: tuple(map(int, reversed(tensor.shape))) for tensor in GGUFReader(file).tensors}


def options(dtype: torch.dtype) -> dict[str, Any]:
    """The options of diffusers' from_single_file for a GGUF file, whose products are to be of a dtype."""
    return {"quantization_config": class_of("diffusers.GGUFQuantizationConfig")(compute_dtype=dtype)}


def four_bits(dtype: torch.dtype) -> dict[str, Any]:
    """The options of diffusers that quantise plain weights to 4 bits as they are read, with products of a dtype."""
    kinds = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
    return {"quantization_config": class_of("diffusers.BitsAndBytesConfig")(**kinds)}


def check_four_bits(argument: str) -> None:
    """Raises ModelError where weights cannot be quantised to 4 bits here, which an argument asks for."""
    if importlib.util.find_spec(FOLDERS) is None:
        raise ModelError(
            f"needs the package {FOLDERS}; install it with `pip install {FOLDERS}` or set it to false", argument
        )
    if not has_gpu():
        raise ModelError("needs a GPU, and PyTorch finds none here; set it to false", argument)


def restore(network: Any, dtype: torch.dtype) -> Any:
    """The network of a GGUF file, in which only linear layers stay quantised.

    Diffusers leaves quantised all that the file has so, such as a convolution in bfloat16, and that fails when it is
    called.

    Args:
        network: From diffusers; it is changed in place.
        dtype: Of the weights that are no longer quantised.
    """
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter, dequantize_gguf_tensor

    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if isinstance(tensor, GGUFParameter) and not (isinstance(module, GGUFLinear) and name == "weight"):
                    plain = dequantize_gguf_tensor(tensor).to(dtype)
                    tensors[name] = torch.nn.Parameter(plain, False) if tensors is module._parameters else plain
    return network


def is_quantised(network: Any) -> bool:
    """Whether a network has quantised weights."""
    return getattr(network, "hf_quantizer", None) is not None


def placed(network: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The network on a device, in a dtype unless its weights are quantised."""
    return network.to(device) if is_quantised(network) else network.to(device, dtype)


def has_gpu() -> bool:
    """Whether PyTorch finds a GPU."""
    return torch.cuda.is_available()


def _check_package(name: str, place: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise ModelError(
            f"{place} has quantised weights, which need the package {name}; install it with `pip install {name}`"
        )
