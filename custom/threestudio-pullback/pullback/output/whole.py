"""Files that are whole or not there: a disk that fills up or a process that is killed leaves no half of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[str]:
    """A context that yields the path of a new file, which takes the place of `path` when the block ends.

    The new file lies beside `path`, with ".part" after its name. Where the block raises, it is deleted and `path` is as
    it was; an OSError then has `path` as its file name.
    """
    path = os.fspath(path)
    part = f"{path}.part"
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())  # a quota or a network's disk may refuse the data only here
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(part)
        if isinstance(error, OSError) and error.filename in (None, part):
            error.filename, error.filename2 = path, None
        raise


def write(path: Path | str, content: bytes | str) -> None:
    """Writes a whole file, text in UTF-8 with its line ends as they are; an earlier one is replaced in one move."""
    with replacing(path) as part, open(part, "wb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def clear(folder: Path | str) -> None:
    """Deletes what killed processes have left unfinished in a folder that no other process writes to."""
    for part in Path(folder).rglob("*.part"):
        part.unlink(missing_ok=True)
