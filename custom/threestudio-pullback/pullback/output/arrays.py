"""Pictures in numpy arrays, of any range of values."""

from __future__ import annotations

import numpy as np


def to_bytes(values: np.ndarray, data_range: tuple[float, float]) -> np.ndarray:
    """Values as the nearest bytes, cut to the range, which becomes 0 to 255; all 0 where it is empty."""
    low, high = (float(v) for v in data_range)
    if high == low:
        return np.zeros(values.shape, np.uint8)
    return np.rint((values.clip(low, high) - low) / (high - low) * 255.0).astype(np.uint8)


def rgb(picture: np.ndarray, data_format: str, data_range: tuple[float, float]) -> np.ndarray:
    """[H,W,C] ("HWC") or [C,H,W] ("CHW") as bytes [H,W,3]; more than three channels become tiles side by side."""
    if data_format == "CHW":
        picture = picture.transpose(1, 2, 0)
    elif data_format != "HWC":
        raise ValueError(f"data_format is 'HWC' or 'CHW', not {data_format!r}")
    if picture.dtype != np.uint8:
        picture = to_bytes(picture, data_range)
    picture = np.pad(picture, ((0, 0), (0, 0), (0, -picture.shape[-1] % 3)))
    return np.concatenate([picture[..., i : i + 3] for i in range(0, picture.shape[-1], 3)], axis=1)


def grayscale(picture: np.ndarray, data_range: tuple[float, float] | None, cmap: str | None) -> np.ndarray:
    """[H,W] as bytes [H,W,3]; `data_range` None spans the values, `cmap` is "jet" or None for grey."""
    if data_range is None:
        data_range = (picture.min(), picture.max())
    grey = np.repeat(to_bytes(picture, data_range)[..., None], 3, axis=2)
    if cmap is None:
        return grey
    if cmap != "jet":
        raise ValueError(f"cmap is 'jet' or None, not {cmap!r}")
    # red, green and blue are the same trapezium, centred at 3/4, 1/2 and 1/4
    return to_bytes(1.5 - np.abs(4.0 * grey / 255.0 - np.array([3.0, 2.0, 1.0])), (0, 1))


def resize(picture: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Bytes [H,W,3] at another (height, width), bilinearly."""
    if picture.shape[:2] == size:
        return picture
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BILINEAR))
