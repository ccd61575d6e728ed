"""A small 3D framework with threestudio's registry names, config keys and command line; runs without CUDA.

Importing this package imports neither Lightning nor a renderer; `launch` does, when a run starts.
"""

from __future__ import annotations

from .registry import debug, find, info, register, warn

__all__ = ["debug", "find", "info", "register", "warn"]
