"""Parts of a comparison for a paper or an issue: its table as Markdown, its turntables as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ....output import markdown, whole
from ....output.pictures import save_image
from .table import compact

CELL = 64
"""Pixels of a picture on the sheet."""
GAP = 6
TITLE = 14
"""Pixels of a line of text."""


def write_table(file: Path, data: dict[str, Any], columns: list[dict[str, Any]]) -> None:
    """Writes the terms, and a line for each measure with every method's mean and 95 % interval; the best is bold.

    Args:
        file: The Markdown file.
        data: The comparison.
        columns: From `table.table`.
    """
    terms = data["terms"]
    lines = [
        f"`{terms['command']}`", "",
        f"Budget {terms['budget']}; {len(data['prompts'])} prompts × {len(data['seeds'])} seeds; {terms['machine']}; "
        f"commit {terms['commit']}, {terms['date']}. {' '.join(terms['notes'])}", "\n",
    ]  # fmt: skip
    arrows = {"higher": " ↑", "lower": " ↓", None: ""}
    rows = [
        [column["title"] + arrows[column["better"]],
         *(_cell(column["cells"].get(method["name"]), column["unit"]) for method in data["methods"])]
        for column in columns
    ]  # fmt: skip
    whole.write(file, "\n".join(lines) + markdown.table(["measure", *(m["title"] for m in data["methods"])], rows))


def write_sheet(file: Path, data: dict[str, Any]) -> None:
    """Writes a PNG with a row for each prompt and a column for each method: the first frame of every turntable.

    Runs that diverged or failed have a red frame.
    """
    from PIL import Image, ImageDraw

    wide = len(data["seeds"]) * CELL + GAP
    size = (len(data["methods"]) * wide, TITLE + len(data["prompts"]) * (CELL + TITLE))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    runs = {(run["method"], run["prompt"], run["seed"]): run for run in data["runs"]}
    for column, method in enumerate(data["methods"]):
        fits = draw.textlength(method["title"]) < wide
        draw.text((column * wide + 1, 1), method["title"] if fits else method["name"], fill="black")
        for row, prompt in enumerate(data["prompts"]):
            top = TITLE + row * (CELL + TITLE) + TITLE
            if column == 0:
                draw.text((1, top - TITLE + 1), prompt, fill="#666")
            for place, seed in enumerate(data["seeds"]):
                run, left = runs.get((method["name"], prompt, seed)), column * wide + place * CELL
                if run is None:
                    continue
                if run["turntable"] is not None:
                    sheet.paste(_first(file.parent / run["turntable"], run["frames"]), (left, top))
                if run["status"] != "done":
                    draw.rectangle((left, top, left + CELL - 1, top + CELL - 1), outline="#d00", width=2)
    save_image(file, sheet)


def _first(file: Path, frames: int) -> Any:
    from PIL import Image

    with Image.open(file) as strip:
        return strip.convert("RGB").crop((0, 0, strip.width // frames, strip.height)).resize((CELL, CELL))


def _cell(cell: dict[str, Any] | None, unit: str) -> str:
    if cell is None:
        return "–"
    mean, low, high = (compact(cell[key], unit) for key in ("mean", "low", "high"))
    mean = f"**{mean}**" if cell["mark"] == "best" else mean
    return f"{mean} ({low} to {high})" if cell["sure"] else mean
