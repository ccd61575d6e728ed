"""Contact sheets and mode histograms, drawn with Pillow."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ...output.pictures import to_image

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
    sheet.save(file)


def histograms(
    file: Path,
    shares: dict[str, tuple[Tensor, Tensor]],
    width: int = 640,
    height: int = 90,
    icons: Tensor | None = None,
    blended: dict[str, Tensor] | None = None,
) -> None:
    """One row a method: a bar for every mode's share, and a dark line where it should end.

    shares: label -> shares found [K] and wanted [K]. All rows have one scale. icons: what the modes look like
    [K,3,H,W] in [−1, 1], drawn below the bars. blended: label -> the part of the share found that are blends [K],
    drawn in red.
    """
    from PIL import Image, ImageDraw

    top = max(float(part.max()) for pair in shares.values() for part in pair)
    foot = 0 if icons is None else round(width / len(icons)) + 4
    sheet = Image.new("RGB", (width, len(shares) * (height + 22) + foot), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (label, (found, wanted)) in enumerate(shares.items()):
        base = row * (height + 22) + 18 + height
        draw.text((3, base - height - 15), label, fill="black")
        mixed = (blended or {}).get(label, found * 0).tolist()
        for k, (share, right) in enumerate(zip(found.tolist(), wanted.tolist(), strict=True)):
            left, end = round(k * width / len(found)), round((k + 1) * width / len(found)) - 1
            gap = (end - left) // 6
            draw.rectangle((left + gap, base - round(share / top * height), end - gap, base), fill=BAR)
            if mixed[k] > 0:
                draw.rectangle((left + gap, base - round(mixed[k] / top * height), end - gap, base), fill=MARK)
            line = base - round(right / top * height)
            draw.line((left, line, end, line), fill=WANTED)
    for k, icon in enumerate([] if icons is None else icons):
        side = foot - 6
        picture = to_image(icon).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(picture, (round(k * width / len(icons)) + 1, sheet.height - side - 1))  # pyright: ignore[reportArgumentType]
    sheet.save(file)
