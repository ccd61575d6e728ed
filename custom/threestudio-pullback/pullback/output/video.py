"""Videos, and whether one came out whole."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .whole import replacing, write

CRF = 18
"""x264's constant rate factor: 0 is lossless, 23 its default; 18 looks like the pictures themselves."""
_LONGEST = 2000  # characters of a text in an mp4


def save_video(
    path: Path | str, frames: Sequence[np.ndarray], fps: float, about: Mapping[str, Any] | None = None
) -> None:
    """Writes an mp4, or an endless gif, by the path's ending.

    Args:
        path: of the file.
        frames: pictures [H,W,3] of bytes, all of one size.
        fps: frames a second.
        about: metadata of an mp4: `prompt` becomes its title, the rest its comment.

    Raises:
        UserError: an mp4 could not be written whole.
    """
    if str(path).endswith(".gif"):
        import imageio.v2 as imageio

        content = io.BytesIO()
        imageio.mimsave(content, list(frames), "GIF", duration=1000 / fps, loop=0)  # type: ignore[call-arg]
        write(path, content.getvalue())
        return
    told = dict(about or {})
    texts = {"title": told.pop("prompt", ""), "comment": ", ".join(f"{name} {value}" for name, value in told.items())}
    # they are words of the encoder's command, which take no zero byte, and on Linux no 128 KiB
    texts = {name: text.replace("\0", " ")[:_LONGEST] for name, text in texts.items()}
    metadata = [word for name, text in texts.items() for word in ("-metadata", f"{name}={text}")]
    with replacing(path) as part:
        # the encoder is a process of its own, and may say nothing when the disk is full
        if (written := _encode(part, frames, fps, metadata)) != len(frames):
            raise UserError(
                f"the video {path} holds {written} of {len(frames)} frames; free space on its disk and save it again"
            )


def _encode(path: str, frames: Sequence[np.ndarray], fps: float, metadata: list[str]) -> int:
    """Writes an mp4; returns how many frames it holds."""
    import imageio_ffmpeg

    height, width = frames[0].shape[:2]
    # players want even sizes; the default, multiples of 16, would resize most pictures
    options: Any = {"fps": fps, "macro_block_size": 2, "ffmpeg_log_level": "quiet", "quality": None}
    options["output_params"] = ["-crf", str(CRF), *metadata, "-f", "mp4"]
    encoder = imageio_ffmpeg.write_frames(path, (width, height), **options)
    try:
        encoder.send(None)
        for frame in frames:
            encoder.send(np.ascontiguousarray(frame))
        encoder.close()
        return imageio_ffmpeg.count_frames_and_secs(path)[0] or 0
    except (OSError, RuntimeError):
        return 0
