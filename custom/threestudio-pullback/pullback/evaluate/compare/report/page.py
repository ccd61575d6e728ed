"""The page of a comparison: report.html, one file that needs no network, and its data as CSV."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ....output import webpage, whole
from . import data as page_data
from . import extracts
from .table import FEWEST, TITLES, compact, overlap, table

HERE = Path(__file__).parent
BUDGETS = {"nfe": "calls of the denoiser", "seconds": "seconds", "steps": "steps"}
# the fields of a run that the script reads
RUN = ("method", "prompt", "seed", "status", "reason", "measures", "frames", "command")


def build(folder: Path) -> Path:
    """Makes report.html, CSV files, table.md and sheet.png from a folder's compare.json and turntables.

    Returns:
        The path of report.html.

    Raises:
        UserError: compare.json or a turntable is not of the format, or Jinja is not installed.
    """
    from .curves import curves

    folder = Path(folder)
    data = page_data.read(folder)
    by_place = {(run["method"], run["prompt"], run["seed"]): i for i, run in enumerate(data["runs"])}
    columns = table(data)
    text = webpage.render(
        HERE, "page", "the report", {"compact": compact, "setting": _setting}, styles=[webpage.BASE], **data,
        lead=lead(data), used=used(data), fewest=FEWEST, columns=columns, glance=glance(data, columns),
        by_place=by_place,
        groups=[(title, n) for name, title in TITLES.items() if (n := sum(c["group"] == name for c in columns))],
        unfinished=[(i, run) for i, run in enumerate(data["runs"]) if run["status"] != "done"],
        pictures=[_picture(folder, run["turntable"]) for run in data["runs"]],
        figures={
            "methods": [{"name": m["name"], "title": m["title"]} for m in data["methods"]],
            "measures": data["measures"],
            "curves": curves(data),
            "runs": [{key: run.get(key) for key in RUN} for run in data["runs"]],
        },
    )  # fmt: skip
    page_data.write_tables(data, folder)
    extracts.write_table(folder / "table.md", data, columns)
    extracts.write_sheet(folder / "sheet.png", data)
    whole.write(folder / "report.html", text)
    return folder / "report.html"


def lead(data: dict[str, Any]) -> str:
    """What the comparison compares, in one sentence."""
    match = re.fullmatch(r"(\w+)=([\d.]+)", data["terms"]["budget"])
    plain = f"{match[2]} {BUDGETS[match[1]]}" if match and match[1] in BUDGETS else data["terms"]["budget"]
    methods, prompts, seeds = (len(data[key]) for key in ("methods", "prompts", "seeds"))
    often = {1: "once", 2: "twice"}.get(seeds, f"{seeds} times")
    same = "the same " if methods > 1 else ""
    what = f"{same or 'a '}prompt {often}" if prompts == 1 else f"{same}{prompts} prompts, each prompt {often}"
    return f"{_count(methods, 'method')} sampled {what}, and every run had {plain} to do it."


def used(data: dict[str, Any]) -> str:
    """What the runs used of it in the mean, in one sentence; "" where it was not counted."""
    parts = []
    for measure, what in (("nfe", "calls"), ("seconds", "s")):
        means = {row["method"]: row["mean"] for row in data["summary"] if row["measure"] == measure}
        known = [(m["title"], compact(means[m["name"]])) for m in data["methods"] if m["name"] in means]
        parts.append(", ".join(f"{title} {mean} {what}" for title, mean in known))
    return f"Used in the mean: {'; '.join(filter(None, parts))}." if any(parts) else ""


def glance(data: dict[str, Any], columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the best method and the next, by the first measure of each group in which methods differ."""
    titles, cards = {method["name"]: method["title"] for method in data["methods"]}, {}
    for column in columns:
        differ = len({cell["mean"] for cell in column["cells"].values()}) > 1
        if column["group"] in cards or not column["better"] or not differ:
            continue
        sign = -1 if column["better"] == "higher" else 1
        first, second, *_ = sorted(column["cells"].items(), key=lambda cell: sign * cell[1]["mean"])
        cards[column["group"]] = {
            "group": TITLES[column["group"]], "column": column,
            "best": first[1], "best_title": titles[first[0]], "next": second[1], "next_title": titles[second[0]],
            "apart": not overlap(first[1], second[1]) if first[1]["sure"] and second[1]["sure"] else None,
        }  # fmt: skip
    return list(cards.values())


def _picture(folder: Path, name: str | None) -> str | None:
    if name is None:
        return None
    kind = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}.get(Path(name).suffix.lower(), "webp")
    return webpage.picture((folder / name).read_bytes(), kind)


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
