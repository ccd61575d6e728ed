"""The one file that knows which framework runs the adapters: threestudio if loaded, else the bundled host."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import TYPE_CHECKING

if "threestudio" in sys.modules and not TYPE_CHECKING:
    from threestudio import find, info, register, warn
    from threestudio.models.background.base import BaseBackground
    from threestudio.models.geometry.base import BaseGeometry
    from threestudio.models.materials.base import BaseMaterial
    from threestudio.models.renderers.base import Renderer
    from threestudio.systems.base import BaseLift3DSystem, BaseSystem
    from threestudio.utils.base import BaseModule, BaseObject, Updateable
    from threestudio.utils.config import config_to_primitive, parse_structured
    from threestudio.utils.misc import C, get_device
else:
    from ..host.background import BaseBackground
    from ..host.base import BaseModule, BaseObject, Updateable, get_device
    from ..host.config import C, config_to_primitive, parse_structured
    from ..host.geometry import BaseGeometry
    from ..host.material import BaseMaterial
    from ..host.registry import find, info, register, warn
    from ..host.renderer import Renderer
    from ..host.systems import BaseLift3DSystem, BaseSystem

__all__ = [
    "BaseBackground",
    "BaseGeometry",
    "BaseLift3DSystem",
    "BaseMaterial",
    "BaseModule",
    "BaseObject",
    "BaseSystem",
    "C",
    "Renderer",
    "Updateable",
    "config_to_primitive",
    "find",
    "get_device",
    "info",
    "load_adapters",
    "parse_structured",
    "register",
    "warn",
]


def load_adapters() -> None:
    """Imports every adapter, which enters its names into the framework's registry."""
    package = importlib.import_module("pullback.adapters")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
