"""Rows of the campaign, one for each case; a part that is interrupted goes on."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pullback.output import whole
from pullback.version import commit

PARTS = ("kills", "disks", "input", "numbers", "long", "threestudio")
Row = dict[str, Any]
FOLDERS = [str(Path(__file__).resolve().parents[2])]
"""What no row names: the checkout, and the folder of the part's runs."""


class Results:
    """The rows of one part in the file of all parts."""

    def __init__(self, file: Path, part: str) -> None:
        self.file, self.part = file, part

    def done(self) -> set[str]:
        return {row["case"] for row in read(self.file).get(self.part, [])}

    def add(self, row: Row) -> None:
        data = read(self.file)  # another part may have written meanwhile
        rows = [other for other in data.get(self.part, []) if other["case"] != row["case"]]
        data[self.part] = [*rows, {**row, "commit": commit()}]
        lines = (f' "{name}": [\n  ' + ",\n  ".join(map(json.dumps, rows)) + "\n ]" for name, rows in data.items())
        whole.write(self.file, "{\n" + ",\n".join(lines) + "\n}\n")
        print(f"{self.part} {row['case']}: {row['verdict']}", flush=True)

    def run(self, cases: dict[str, Callable[[], Row]], only: str = "") -> None:
        """Makes the rows that are not there; a row's `verdict` is "ok" or says what is wrong."""
        present = self.done()
        for name, make in cases.items():
            if name not in present and any(text in name for text in only.split(",")):
                start = time.monotonic()
                row = make()
                self.add({"case": name, **row, "seconds": round(time.monotonic() - start, 1)})


def open_results(file: Path, part: str) -> Results:
    return Results(file, part)


def read(file: Path) -> dict[str, list[Row]]:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def nameless(text: str) -> str:
    """A text without the machine's folders."""
    for folder in FOLDERS:
        text = text.replace(f"{folder}/", "").replace(folder, ".")
    return text


@contextmanager
def workplace(given: Path | None, part: str) -> Iterator[Path]:
    """A folder for the runs of a part, which is the working folder too; deleted at the end where it is not given."""
    folder = Path(tempfile.mkdtemp(prefix="campaign-")) if given is None else given / part
    folder.mkdir(parents=True, exist_ok=True)
    FOLDERS.insert(0, str(folder))
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
        if given is None:
            shutil.rmtree(folder, ignore_errors=True)
