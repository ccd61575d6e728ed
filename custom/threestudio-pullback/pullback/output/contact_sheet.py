"""Contact sheets: many pictures in one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .pictures import save_image

PER_ROW = 16
MARK = (220, 0, 0)


def grid(rows: Sequence[Tensor], border: int = 0) -> Tensor:
    """Rows of pictures as one picture [3,·,·], white where a row is shorter than another.

    Args:
        rows: pictures [N,3,H,W] in [-1,1] each.
        border: white pixels around every picture.
    """
    longest = max(len(row) for row in rows)
    padded = [F.pad(F.pad(row, (border,) * 4, value=1.0), (0,) * 7 + (longest - len(row),), value=1.0) for row in rows]
    return torch.cat([torch.cat([*row], -1) for row in padded], -2)


def contact_sheet(file: Path, samples: dict[str, list[tuple[Path, bool]]], most: int = 32) -> None:
    """Writes the first `most` pictures of every method under its label; those to mark have a red frame.

    Args:
        file: the PNG.
        samples: label -> (picture's file, whether to mark it); all pictures have one size.
        most: pictures of a method.
    """
    from PIL import Image, ImageDraw

    with Image.open(next(path for group in samples.values() for path, _ in group)) as first:
        width, height = first.width + 6, first.height + 6
    rows = {label: -(-min(len(group), most) // PER_ROW) for label, group in samples.items()}
    across = max(420, min(PER_ROW, most, max(map(len, samples.values()))) * width)  # room for a label
    sheet = Image.new("RGB", (across, sum(18 + count * height for count in rows.values())), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for label, group in samples.items():
        draw.text((3, top + 3), label, fill="black")
        for i, (path, marked) in enumerate(group[:most]):
            x, y = i % PER_ROW * width, top + 18 + i // PER_ROW * height
            if marked:
                draw.rectangle((x, y, x + width - 1, y + height - 1), fill=MARK)
            with Image.open(path) as picture:
                sheet.paste(picture, (x + 3, y + 3))
        top += 18 + rows[label] * height
    save_image(file, sheet)
