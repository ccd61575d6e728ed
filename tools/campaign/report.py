"""docs/results/reliability.md from the rows, with the text of campaign/found.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pullback.output import markdown, whole

from .results import Row, read

HEAD = """# Reliability

What a campaign against faults found, beside the tests. `python tools/campaign.py` makes all of it but the part in
threestudio, with seed 0; every case is a row of [reliability.json](reliability.json), with the commit it ran on.

"""


def write(file: Path) -> None:
    data = read(file)
    text = HEAD + "".join(TEXTS[part](rows) for part, rows in data.items() if part in TEXTS)
    whole.write(file.with_suffix(".md"), text + (Path(__file__).parent / "found.md").read_text(encoding="utf-8"))


def table(head: list[str], rows: Iterable[list[Any]]) -> str:
    return markdown.table(head, [[str(cell) for cell in row] for row in rows]) + "\n"


def commits(rows: list[Row]) -> str:
    return "commit " + ", ".join(dict.fromkeys(row["commit"] for row in rows))


def bad(rows: list[Row], fine: tuple[str, ...] = ("ok",)) -> str:
    """The cases that went wrong, one a line."""
    wrong = [row for row in rows if row["verdict"] not in fine]
    return "".join(f"- {row['case']}: {row['verdict'][:200]}\n" for row in wrong) + "\n" * bool(wrong)


def grouped(rows: list[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def kills(rows: list[Row]) -> str:
    lines = [
        [
            name,
            len(own),
            sum(row["verdict"] == "ok" for row in own),
            sum(any(".ckpt" in left for left in row.get("unfinished", [])) for row in own),
            sum(any(".ckpt" not in left for left in row.get("unfinished", [])) for row in own),
        ]
        for name, own in grouped(rows, lambda row: " ".join(row["case"].split()[:2])).items()
    ]
    return (
        f"## Kills\n\n{len(rows)} runs ended by SIGKILL and gone on with from `last.ckpt`, or started again "
        f"where there was "
        f"none; {sum(row['verdict'] == 'ok' for row in rows)} ended bit for bit as the run that was left alone: "
        "parameters, moments, the sampler's state, every file of `save/`. Of a comparison the process was "
        f"killed (time), "
        f"or that of one of its runs (worker); {commits(rows)}.\n\n"
        + table(["run, moment", "kills", "same end", "in a checkpoint", "in a picture"], lines)
        + bad(rows)
    )


def disks(rows: list[Row]) -> str:
    lines = [
        [name, len(own), sum(row["status"] == 2 for row in own), sum(row["verdict"] == "ok" for row in own)]
        for name, own in grouped(rows, lambda row: row["case"].partition(":")[0]).items()
    ]
    return (
        f"## Disks\n\n{len(rows)} runs, exports and comparisons whose disk refused in one file, at a random "
        f"byte (limit: of the "
        "length of a file) or page (full: a tmpfs; quota: a btrfs with a full quota); then there was "
        f"space and "
        "they were gone on with. *ok*: status 2 with one sentence (a log or a cache of embeddings that cannot "
        f"be written is a warning), "
        "every file under a final name whole, nothing unfinished left, and afterwards the end of an undisturbed run; "
        f"{commits(rows)}.\n\n" + table(["way", "cases", "status 2", "ok"], lines) + bad(rows)
    )


def inputs(rows: list[Row]) -> str:
    fine = ("ok", "accepted", "status 1")

    def line(name: str, own: list[Row]) -> list[Any]:
        count = Counter(row["verdict"] if row["verdict"] in fine else "slipped" for row in own)
        return [name, len(own), *(count[v] for v in (*fine, "slipped")), f"{max(row['cpu'] for row in own):.1f}"]

    groups = grouped(rows, lambda row: row["case"].rpartition(" ")[0].partition(":")[0])
    refused = sum(row["status"] == 2 for row in rows)
    return (
        f"## Bad input\n\n{len(rows)} command lines, {refused} of them refused with status 2. *Accepted*: what "
        f"was drawn is "
        "valid after all, and the run ended with 0. *Status 1*: one sentence on what the run met, such as a NaN "
        f"or too "
        f"little memory. *Slipped*: a traceback, more than one sentence, or more than 20 s of processor time; "
        f"{commits(rows)}.\n\n"
        + table(
            ["kind", "cases", "refused", "accepted", "status 1", "slipped", "slowest, s"],
            [line(name, own) for name, own in groups.items()],
        )
        + bad(rows, fine)
    )


def numbers(rows: list[Row]) -> str:
    lines = [
        [name, len(own), sum(row["verdict"] == "ok" for row in own)]
        for name, own in grouped(rows, lambda row: row["case"].split(" in the ")[-1]).items()
    ]
    setups = dict.fromkeys(row["case"].partition(":")[0] for row in rows)
    return (
        f"## Numbers\n\nA NaN, an infinity and 1e20 in one number, at a random visit, view and call, with "
        f"{len(setups)} samplers "
        f"({'; '.join(setups)}). *ok*: the error names the level and the view, or for a gradient, which is a "
        f"sum over views, the "
        "step; parameters are as before; and the visit taken again leads, bit for bit, to the end of an "
        f"undisturbed run; "
        f"{commits(rows)}.\n\n" + table(["in", "cases", "ok"], lines) + bad(rows)
    )


def long(rows: list[Row]) -> str:
    (row,) = rows
    low, high = row["MB"]
    return (
        f"## Long\n\n{row['visits']} visits, those of 200 demos, in one small run: memory went from "
        f"{low} to {high} "
        f"MB, {row['bytes a visit']} ± {row['error']} bytes a visit (slope through ten means, standard error); "
        f"file handles "
        f"{row['handles'][0]} and {row['handles'][1]}, threads {row['threads'][0]} and {row['threads'][1]}: "
        f"{row['verdict']}; "
        f"{commits(rows)}.\n\n"
    )


def threestudio(rows: list[Row]) -> str:
    return (
        f"## Kills in threestudio\n\n`python tools/campaign.py threestudio --root ~/threestudio`, packages of "
        f"today: {len(rows)} "
        f"kills after steps {', '.join(str(row['step']) for row in rows)} of 16; "
        f"{sum(row['verdict'] == 'ok' for row in rows)} "
        f"ended bit for bit the same; {commits(rows)}.\n\n" + bad(rows)
    )


TEXTS = {"kills": kills, "threestudio": threestudio, "disks": disks, "input": inputs, "numbers": numbers, "long": long}
