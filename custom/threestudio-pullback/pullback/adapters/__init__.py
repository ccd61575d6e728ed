"""What a part of your own needs, in the bundled host and in threestudio alike: base classes, and `register`.

Where threestudio runs, import it before this package, whose base classes are then threestudio's.
"""

from ._framework import BaseBackground, BaseGeometry, BaseMaterial, Renderer, register
from .flat.geometry import register_flat
from .flat.renderer import FlatGeometry

__all__ = ["BaseBackground", "BaseGeometry", "BaseMaterial", "FlatGeometry", "Renderer", "register", "register_flat"]
