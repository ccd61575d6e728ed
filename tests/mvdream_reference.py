"""The reference implementation of MVDream, from a checkout outside this repository that MVDREAM_ROOT names.

    git clone https://github.com/bytedance/MVDream && pip install einops
    MVDREAM_ROOT=… python -m pytest tests/test_mvdream.py

Its package imports a model hub and video tools; only the network's files are read here.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

SD21 = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2, "channel_mult": [1, 2, 4, 4], "num_head_channels": 64, "transformer_depth": 1,
    "context_dim": 1024, "camera_dim": 16,
}  # fmt: skip
"""The UNet of the published weights sd-v2.1-base-4view: what its config sd-v2-base.yaml says."""


def module(name: str) -> Any:
    """A module of the checkout, such as `ldm.modules.attention`; skips the test where there is none."""
    root = os.environ.get("MVDREAM_ROOT")
    if not root:
        pytest.skip("MVDREAM_ROOT is not set: a checkout of github.com/bytedance/MVDream")
    pytest.importorskip("einops")
    package = types.ModuleType("mvdream")  # without its __init__.py
    package.__path__ = [str(Path(root) / "mvdream")]
    sys.modules.setdefault("mvdream", package)
    return importlib.import_module(f"mvdream.{name}")


def unet(config: dict[str, Any], device: str = "cpu") -> torch.nn.Module:
    """The reference's network with random weights, also where the reference starts with zeros."""
    network = module("ldm.modules.diffusionmodules.openaimodel").MultiViewUNetModel
    extra = {"use_spatial_transformer": True, "use_linear_in_transformer": True, "legacy": False}
    with torch.device(device):
        made = network(**config, **extra, use_checkpoint=False)
    generator = torch.Generator().manual_seed(1)
    if device != "meta":
        with torch.no_grad():
            for parameter in made.parameters():
                fan = max(1, parameter[0].numel() if parameter.ndim > 1 else 16)
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
    return made.eval()
