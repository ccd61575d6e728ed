"""Where the shipped configs and models lie: inside this package, in a checkout and in an installed wheel alike."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

PACKAGE = Path(str(files(__package__)))
CONFIGS = PACKAGE / "configs"
ASSETS = PACKAGE / "assets"
TINY_CONFIG = CONFIGS / "pullback-nerf-tiny.yaml"
TINY_MODEL = ASSETS / "tiny-sd"
STUDIO_CLASSIFIER = ASSETS / "studio-classifier"

_PLACES = {
    "configs": CONFIGS,
    ".": CONFIGS,
    "custom/threestudio-pullback/configs": CONFIGS,
    "custom/threestudio-pullback/assets": ASSETS,
}
"""Where a checkout of this project and one of threestudio have these folders, seen from their top."""


def find(path: str | Path) -> Path:
    """The file or folder that `path` names: itself where it exists, else the shipped one of that name.

    So a config written for a checkout, `configs/pullback-nerf-tiny.yaml` with a model below
    `custom/threestudio-pullback/assets`, means the same in any folder. A bare name is a config's. What is neither is
    returned as it is.
    """
    own = Path(path).expanduser()
    if not own.exists():
        for place, folder in _PLACES.items():
            if own.is_relative_to(place) and (folder / own.relative_to(place)).exists():
                return folder / own.relative_to(place)
    return own
