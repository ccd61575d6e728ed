"""Base classes and `register` for parts of your own, in the bundled host and in threestudio alike.

Import threestudio before this package where it runs; the base classes are then threestudio's.
"""

from ._framework import BaseBackground, BaseGeometry, BaseMaterial, Renderer, register
from .flat.geometry import register_flat
from .flat.renderer import FlatGeometry

__all__ = ["BaseBackground", "BaseGeometry", "BaseMaterial", "FlatGeometry", "Renderer", "register", "register_flat"]
