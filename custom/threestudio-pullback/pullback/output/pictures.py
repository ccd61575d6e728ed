"""Pictures in [-1,1]: how far apart two are, as bytes and as files."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from . import whole


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1,1] (peak-to-peak 2)."""
    return 10 * math.log10(4 / max(float((a - b).double().square().mean()), 1e-12))


def to_bytes(pictures: Tensor) -> Tensor:
    """Pictures [...] in [-1,1] as bytes, rounded; what is outside is cut off."""
    return ((pictures + 1) * 127.5).round().clamp(0, 255).byte()


def to_image(picture: Tensor) -> Any:
    """A picture [3,H,W] in [-1,1], on any device, as Pillow's."""
    from PIL import Image

    return Image.fromarray(to_bytes(picture.detach().cpu()).movedim(0, -1).numpy())


def png_info(about: Mapping[str, Any]) -> Any:
    """Pillow's metadata of a PNG: a text for each name, in any script."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, value in about.items():
        info.add_itxt(name, str(value))
    return info


def save_png(path: Path, picture: Tensor) -> None:
    """Writes a picture [3,H,W] in [-1,1]."""
    save_image(path, to_image(picture))


def save_image(path: Path | str, image: Any, **options: Any) -> None:
    """Writes a picture of Pillow's, whole; the path's ending is the format, the options are Pillow's."""
    from PIL import Image

    content = io.BytesIO()
    image.save(content, Image.registered_extensions()[Path(path).suffix.lower()], **options)
    whole.write(path, content.getvalue())
