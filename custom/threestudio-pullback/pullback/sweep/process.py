"""Processes that make runs: what they import ahead, whom they end with, what stops them, and where they print."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PRELOADED = [
    "pullback.host.launch", "pullback.host.training.systems", "pytorch_lightning", "torch.utils.tensorboard",
    "imageio_ffmpeg", "diffusers.models.unets.unet_2d_condition", "diffusers.models.autoencoders.autoencoder_kl",
    "transformers.models.clip.modeling_clip", "transformers.models.clip.tokenization_clip", "pullback.sweep.worker",
    "pullback.sweep.ready",
]  # fmt: skip
"""What a run imports: half of the time of a short one."""


def server() -> Any:
    """The way to fork processes from one that has done the imports, which begins them now where it is not there."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    multiprocessing.forkserver.ensure_running()
    return context


def end_with_parent() -> None:
    """Makes this process end, by SIGTERM, as soon as its parent has ended.

    A parent that is killed cannot stop its children, and they would run beside those of the next command.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


class Stop:
    """SIGINT and SIGTERM: the run at work ends in good order, and no other begins."""

    def __init__(self) -> None:
        self.asked, self.running = False, False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _on_signal(self, *_: object) -> None:
        self.asked = True
        if self.running:  # the host has handlers of its own from its first step to its last
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def during(self) -> Iterator[None]:
        """A context in which a signal ends what runs."""
        self.running = True
        try:
            yield
        finally:
            self.running = False


@contextlib.contextmanager
def printing_to(log: Path) -> Iterator[None]:
    """A context in which all that this process prints is added to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    before = [os.dup(number) for number in (1, 2)]
    try:
        with log.open("a", encoding="utf-8", buffering=1) as text:
            for number in (1, 2):
                os.dup2(text.fileno(), number)
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                yield
    finally:
        for number, kept in enumerate(before, 1):
            os.dup2(kept, number)
            os.close(kept)


def last_error(log: Path, start: int = 0) -> str:
    """What the last line of a log says that begins with "error: ", from a byte on; or else its last line."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["no message"])[-1].removeprefix("error: ")
