"""Videos, and whether one came out whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError


def save_video(path: Path | str, frames: Sequence[np.ndarray], fps: float) -> None:
    """Writes an mp4, or an endless gif, by the path's ending.

    Args:
        path: of the file.
        frames: pictures [H,W,3] of bytes, all of one size.
        fps: frames a second.

    Raises:
        UserError: an mp4 could not be written whole.
    """
    import imageio.v2 as imageio

    pictures: Any = frames
    if str(path).endswith(".gif"):
        imageio.mimsave(path, pictures, duration=1000 / fps, loop=0)  # type: ignore[call-arg]
        return
    # players want even sizes; the default, multiples of 16, would resize most pictures
    imageio.mimsave(path, pictures, fps=fps, macro_block_size=2, ffmpeg_log_level="quiet")  # type: ignore[call-arg]
    # the encoder is a process of its own and says nothing when the disk is full
    try:
        video: Any = imageio.get_reader(path, "ffmpeg")  # type: ignore[arg-type]
        with video:
            written = video.count_frames()
    except (OSError, RuntimeError):
        written = 0
    if written != len(frames):
        raise UserError(
            f"the video {path} holds {written} of {len(frames)} frames; free space on its disk and save it again"
        )
