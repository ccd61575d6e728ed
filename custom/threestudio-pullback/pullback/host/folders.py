"""The folder of a run: made for this run alone, held while it lives, and found again where it was moved to."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable

from filelock import FileLock, Timeout

from ..errors import UserError

LOCK = ".lock"
_NAMING = ("exp_root_dir", "name", "tag", "timestamp")


def make_new(folder: str) -> str:
    """Makes a folder that was not there, with "-2", "-3", … after its name where it was; returns its path.

    Raises:
        UserError: It cannot be made.
    """
    try:
        os.makedirs(os.path.dirname(folder) or ".", exist_ok=True)
        for number in itertools.count(1):
            name = folder if number == 1 else f"{folder}-{number}"
            try:
                os.mkdir(name)
                return name
            except FileExistsError:
                if not os.path.isdir(name):
                    raise
    except OSError as e:
        raise _refused(folder, e) from e
    raise AssertionError("there is always a next number")


def make_writable(folder: str) -> None:
    """Makes the run's folder and writes to it once.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as f:
            f.write(b"\0")
    except OSError as e:
        raise _refused(folder, e) from e


def absent(folder: str) -> list[str]:
    """The folder and those above it that are not there, the deepest first."""
    missing = []
    while folder and not os.path.lexists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    return missing


def remove_without_results(made: Iterable[str]) -> None:
    """Removes a run's folder and those above it that were made for it, unless it has results or another has files.

    Args:
        made: The folders that the run has made, the deepest first.
    """
    first, *above = made
    if any(files for part in ("ckpts", "save") for _, _, files in os.walk(os.path.join(first, part))):
        return
    try:
        lock = hold(first, "leave it")
    except UserError:
        return
    shutil.rmtree(first, ignore_errors=True)
    if lock is not None:
        lock.release()
    with contextlib.suppress(OSError):  # not empty
        for folder in above:
            os.rmdir(folder)


def hold(folder: str, remedy: str, patience: float = 0) -> FileLock | None:
    """Holds a folder for this process, until it ends, however it ends, or the lock is released or lost.

    Args:
        folder: The folder, which is there.
        remedy: What to do where another process holds it.
        patience: Seconds to wait for it.

    Returns:
        The lock; None where the file system has no locks.

    Raises:
        UserError: Another process has the folder.
    """
    lock = FileLock(os.path.join(os.path.abspath(folder), LOCK), is_singleton=True)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise UserError(f"another process is writing to {folder}; {remedy}") from None
    except (OSError, NotImplementedError):
        return None
    return lock


def of_own_config(config: str, resume: str | None, words: Iterable[str]) -> str | None:
    """The folder whose own parsed.yaml and checkpoint a command names, wherever it lies; None for another command.

    Args:
        config: The config file.
        resume: The checkpoint.
        words: Overrides; one that names the folder anew takes its effect.
    """
    folder = os.path.dirname(os.path.dirname(os.path.abspath(config)))
    own = os.path.join("configs", "parsed.yaml")
    named = any(word.partition("=")[0] in _NAMING for word in words)
    if resume is None or named or os.path.relpath(os.path.abspath(config), folder) != own:
        return None
    return os.path.relpath(folder) if lies_in(resume, folder) else None


def lies_in(file: str, folder: str) -> bool:
    """Whether a file lies in a folder, at any depth."""
    return os.path.abspath(file).startswith(os.path.join(os.path.abspath(folder), ""))


def _refused(folder: str, error: OSError) -> UserError:
    return UserError(
        f"cannot write to the output folder {folder}: {error.strerror}; set another `exp_root_dir` or `tag`"
    )
