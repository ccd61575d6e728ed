"""Writes GGUF files with the package gguf's own quantiser, as the tools that people share models with do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize, quantize
from torch import Tensor


def write(
    file: Path, weights: dict[str, Tensor], kind: Kind = Kind.Q8_0, other: Kind = Kind.F16, drawn: Kind | None = None
) -> dict[str, Tensor]:
    """A file of quantised matrices; vectors are float32, as in shared files.

    Args:
        file: Its path.
        weights: By name.
        kind: Of matrices whose rows hold whole blocks.
        other: Of all else that is no vector.
        drawn: Of matrices whose rows hold whole blocks of it; its bytes are drawn at random, since the package
            quantises to few kinds.

    Returns:
        The weights that the file then holds, by the package's own reckoning.
    """
    writer, held, generator = gguf.GGUFWriter(str(file), "test"), {}, np.random.default_rng(0)
    for name, tensor in weights.items():
        values: Any = tensor.float().contiguous().numpy()
        if values.ndim == 2 and drawn is not None and not values.shape[1] % gguf.GGML_QUANT_SIZES[drawn][0]:
            chosen = drawn
            data = random_blocks(values, drawn, generator)
        else:
            whole = values.ndim == 2 and not values.shape[1] % gguf.GGML_QUANT_SIZES[kind][0]
            chosen = Kind.F32 if values.ndim < 2 else kind if whole else other
            data = quantize(values, chosen)
        writer.add_tensor(name, data, raw_dtype=chosen)
        held[name] = torch.from_numpy(dequantize(data, chosen).reshape(values.shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def random_blocks(values: Any, kind: Kind, generator: np.random.Generator) -> Any:
    """Blocks of random bytes in the place of a matrix, whose scales are small numbers."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    data = generator.integers(0, 256, (values.size // block, size), dtype=np.uint8)
    scales = SCALES[kind]
    data[:, scales] = np.frombuffer(np.full(len(data) * 2, 0.001, np.float16).tobytes(), np.uint8).reshape(-1, 4)[
        :, : len(range(*scales.indices(size)))
    ]
    return data.reshape(len(values), -1)


# where a block's scales of float16 lie
SCALES = {Kind.Q4_K: slice(0, 4), Kind.Q5_K: slice(0, 4), Kind.Q6_K: slice(208, 210), Kind.Q2_K: slice(80, 84)}
