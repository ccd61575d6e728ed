"""Contact sheets and mode histograms, drawn with Pillow."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

PER_ROW = 16
MARK = (220, 0, 0)
BAR, WANTED = (70, 110, 180), (20, 20, 20)


def contact_sheet(file: Path, samples: dict[str, list[tuple[Path, bool]]], most: int = 32) -> None:
    """The first `most` pictures of every method under its label, all of one size; those to mark framed in red.

    samples: label -> (picture's file, whether to mark it).
    """
    from PIL import Image, ImageDraw

    with Image.open(next(path for group in samples.values() for path, _ in group)) as first:
        width, height = first.width + 6, first.height + 6
    rows = {label: -(-min(len(group), most) // PER_ROW) for label, group in samples.items()}
    sheet = Image.new("RGB", (PER_ROW * width, sum(18 + count * height for count in rows.values())), "white")
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
    sheet.save(file)


def histograms(file: Path, shares: dict[str, tuple[Tensor, Tensor]], width: int = 640, height: int = 90) -> None:
    """One row a method: a bar for every mode's share, and a dark line where it should end.

    shares: label -> shares found [K] and wanted [K]. All rows have one scale.
    """
    from PIL import Image, ImageDraw

    top = max(float(part.max()) for pair in shares.values() for part in pair)
    sheet = Image.new("RGB", (width, len(shares) * (height + 22)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (label, (found, wanted)) in enumerate(shares.items()):
        base = row * (height + 22) + 18 + height
        draw.text((3, base - height - 15), label, fill="black")
        for k, (share, right) in enumerate(zip(found.tolist(), wanted.tolist(), strict=True)):
            left, end = round(k * width / len(found)), round((k + 1) * width / len(found)) - 1
            gap = (end - left) // 6
            draw.rectangle((left + gap, base - round(share / top * height), end - gap, base), fill=BAR)
            line = base - round(right / top * height)
            draw.line((left, line, end, line), fill=WANTED)
    sheet.save(file)
