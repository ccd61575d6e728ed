"""What threestudio's launch.py imports from its custom/ folder: enters the adapters into its registry."""

import importlib.util
import os
import sys

if sys.version_info < (3, 10):  # noqa: UP036 (threestudio itself runs on 3.8)
    raise ImportError(f"threestudio-pullback needs Python 3.10 or newer; this is {sys.version.split()[0]}")
if importlib.util.find_spec("pullback") is None:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

try:
    from pullback.adapters._framework import load_adapters

    load_adapters()
except ModuleNotFoundError as e:
    raise ImportError(f"threestudio-pullback needs the package '{e.name}': pip install {e.name}") from e
