"""Puts the stand-ins in place, for this process and its children; no file of threestudio changes."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
from typing import Any

import nerfacc
import torch

_MODULES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "modules")
# packages that get a stand-in where they are not installed, and what then cannot be used
_ABSENT = {
    "controlnet_aux": "ControlNet guidance",
    "torchvision": "what uses it",
}

# nerfacc's functions by the module that has them here
NERFACC = {
    "grids": ("ray_aabb_intersect", "traverse_grids"),
    "segments": (
        "pack_info", "inclusive_sum", "exclusive_sum", "inclusive_prod", "exclusive_prod",
        "importance_sampling", "searchsorted",
    ),
}  # fmt: skip


def install() -> list[str]:
    """Stands in for all that threestudio, which must be on sys.path, needs of CUDA, and imports it.

    Returns:
        One line for each stand-in: for what, why, and what it is.
    """
    # no part may find a CUDA device and use it for a half of the work
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    lines = _packages()
    importlib.import_module("threestudio")
    return [*lines, *stand_in_nerfacc(), *_devices(), *_trainer(), *_half_precision()]


def _packages() -> list[str]:
    # child processes inherit sys.path
    sys.path.insert(1, os.path.join(_MODULES, "always"))
    missing = [name for name in _ABSENT if importlib.util.find_spec(name) is None]
    sys.path.append(os.path.join(_MODULES, "absent"))
    return [
        "tinycudann (it needs CUDA): the bundled host's hash grid, encodings and networks, in PyTorch",
        "nvdiffrast (it needs CUDA): this package's rasteriser and textures, as kernels for the CPU",
        "envlight (it needs nvdiffrast): an environment map filtered in PyTorch",
        *(f"{name} (not installed): an empty module; {_ABSENT[name]} will end with a message" for name in missing),
    ]


def stand_in_nerfacc() -> list[str]:
    """Puts PyTorch functions in the place of nerfacc's compiled ones, wherever they have been imported by name."""
    from . import grids, segments

    homes = {"grids": grids, "segments": segments}
    modules = {name: homes[home] for home, names in NERFACC.items() for name in names}
    for name, module in modules.items():
        replace(getattr(nerfacc, name), getattr(module, name), "nerfacc", "threestudio")
    return [f"nerfacc's {', '.join(modules)} (compiled for CUDA): the same functions in PyTorch"]


def _devices() -> list[str]:
    from threestudio.models import networks
    from threestudio.utils import misc

    cpu = torch.device("cpu")
    replace(misc.get_device, lambda: cpu, "threestudio")
    # threestudio uses a rank only as the number of a CUDA device
    networks.get_rank = lambda: cpu
    torch.cuda.device = contextlib.nullcontext  # type: ignore[assignment,misc]
    return ["get_device() and torch.cuda.device() (they name a CUDA device): the CPU"]


def _trainer() -> list[str]:
    import pytorch_lightning as pl

    threestudio = importlib.import_module("threestudio")
    original = pl.Trainer.__init__
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # of torchrun

    @functools.wraps(original)
    def on_cpu(self: Any, *args: Any, **settings: Any) -> None:
        settings |= {"accelerator": "cpu", "devices": devices}
        if str(settings.get("precision", 32)) not in ("32", "32-true", "64", "64-true"):
            threestudio.info(f"stand-in for trainer.precision {settings['precision']} (half precision is for CUDA): 32")
            settings["precision"] = 32
        original(self, *args, **settings)

    pl.Trainer.__init__ = on_cpu  # type: ignore[method-assign]
    return [f"Trainer(accelerator='gpu') in launch.py: accelerator='cpu', devices={devices}"]


def _half_precision() -> list[str]:
    from threestudio.utils import base

    original = base.parse_structured

    @functools.wraps(original)
    def in_single_precision(fields: Any, cfg: Any = None) -> Any:
        parsed = original(fields, cfg)
        if getattr(parsed, "half_precision_weights", False):
            parsed.half_precision_weights = False
        return parsed

    base.parse_structured = in_single_precision
    return ["half_precision_weights=true of a guidance (half precision is for CUDA): false"]


def replace(old: Any, new: Any, *packages: str) -> None:
    """Puts `new` in the place of `old` under every name that a loaded module of the packages has for it."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in packages:
            for key, value in list(vars(module).items()):
                if value is old:
                    setattr(module, key, new)
