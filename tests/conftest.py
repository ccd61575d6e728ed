"""Deprecated calls of ours are errors; a test that takes `device` runs on the CPU, and on CUDA where there is one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import own_calls
import pytest
import torch

# here, and by its sitecustomize.py in every Python that a test starts
own_calls.install()
_path = [str(Path(own_calls.__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
os.environ["PYTHONPATH"] = os.pathsep.join(_path)

# a shell has what it runs in the background ignore Ctrl-C, and so would all that tests start and interrupt
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=["cpu", "cuda"], help="run tests that take `device` on this one alone")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--device")
        names = [chosen] if chosen else ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
        metafunc.parametrize("device", [torch.device(name) for name in names], ids=str)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "device" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.device)
