"""Where the shipped configs and models lie: inside this package, in a checkout and in an installed wheel alike."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

PACKAGE = Path(str(files("pullback")))
CONFIGS = PACKAGE / "configs"
ASSETS = PACKAGE / "assets"
TINY_CONFIG = CONFIGS / "pullback-nerf-tiny.yaml"
TINY_MODEL = ASSETS / "tiny-sd"
TINY_MV_CONFIG = CONFIGS / "pullback-nerf-tiny-mv.yaml"
TINY_MV = ASSETS / "tiny-mv"
STUDIO_CLASSIFIER = ASSETS / "studio-classifier"

_PLACES = {
    "configs": CONFIGS,
    ".": CONFIGS,
    "custom/threestudio-pullback/configs": CONFIGS,
    "custom/threestudio-pullback/assets": ASSETS,
}
"""Where these folders are in a checkout of this project, and in one of threestudio."""


def find(path: str | Path) -> Path:
    """Finds a file or folder: the path itself if it exists, else the shipped one of that name, else the path.

    So `configs/pullback-nerf-tiny.yaml`, and a model below `custom/threestudio-pullback/assets`, mean the same in any
    folder as in a checkout. A bare name is a config's, and may do without `.yaml`.
    """
    own = Path(os.path.expanduser(path))
    if not os.path.exists(own):  # Path.exists raises for a text that is too long for a path
        for place, folder in _PLACES.items():
            if own.is_relative_to(place) and os.path.exists(folder / own.relative_to(place)):
                return folder / own.relative_to(place)
        if own == Path(own.name) and os.path.isfile(CONFIGS / f"{own}.yaml"):
            return CONFIGS / f"{own}.yaml"
    return own


def config_remedy() -> str:
    """What to give where a config file is not there: another path, or one of the shipped configs, by name."""
    return f"give a config's path, or one of the shipped: {', '.join(sorted(p.name for p in CONFIGS.glob('*.yaml')))}"
