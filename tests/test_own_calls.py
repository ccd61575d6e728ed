"""What refuses deprecated calls of ours: what it catches, here and in processes that tests start; what it leaves."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from own_calls import ROOT, DeprecatedCall

OTHER = """
import contextlib, functools, logging, warnings
from typing_extensions import deprecated

def warn(kind):
    warnings.warn("`warn` is old", kind, stacklevel=1)

def nested(kind):
    warn(kind)

def log(words):
    logging.getLogger("other").warning(words)

@deprecated("marked")
def marked():
    pass

@contextlib.contextmanager
def managed():
    nested(FutureWarning)
    yield

def calls_marked():
    marked()
"""


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A library, and one that calls it."""
    (tmp_path / "other_library.py").write_text(OTHER)
    (tmp_path / "third_library.py").write_text("import other_library\ndef warn(kind):\n    other_library.warn(kind)\n")
    (tmp_path / "old_library.py").write_text("import warnings\nwarnings.warn('old', DeprecationWarning)\n")
    (tmp_path / "new_library.py").write_text("import old_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("other_library")
    for name in ("other_library", "third_library", "old_library", "new_library"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("kind", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
def test_a_deprecated_call_of_ours_is_an_error_though_warnings_are_hidden(other: Any, kind: type[Warning]):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in (other.warn, other.nested):
            with pytest.raises(DeprecatedCall, match=r"test_own_calls.py:\d+ calls what is deprecated: `warn` is old"):
                call(kind)


def test_so_are_marked_functions_loggers_words_contexts_and_modules(other: Any):
    with pytest.raises(DeprecatedCall, match="marked"):
        other.marked()
    with pytest.raises(DeprecatedCall, match="`a` is deprecated"):
        other.log("`a` is deprecated! Use `b`")
    logging.getLogger("other").setLevel(logging.ERROR)
    with pytest.raises(DeprecatedCall, match="will be removed"):
        other.log("`a` will be removed in 3.0")
    with pytest.raises(DeprecatedCall, match="is old"), other.managed():
        pass
    with pytest.raises(DeprecatedCall, match="old"):
        importlib.import_module("old_library")


@pytest.mark.filterwarnings("ignore")
def test_a_librarys_own_calls_other_warnings_and_our_own_deprecations_are_left(other: Any):
    third = importlib.import_module("third_library")
    third.warn(DeprecationWarning)
    importlib.import_module("new_library")
    other.calls_marked()
    other.warn(UserWarning)
    other.log("the file is large")
    warnings.warn("ours", FutureWarning, stacklevel=2)


def test_a_name_of_a_real_library():
    omegaconf = pytest.importorskip("omegaconf")
    if tuple(map(int, omegaconf.__version__.split(".")[:2])) < (2, 4):
        pytest.skip("`register_new_resolver` is not deprecated before omegaconf 2.4")
    with pytest.raises(DeprecatedCall, match="register_new_resolver"):
        omegaconf.OmegaConf.register_new_resolver("own_calls", str)


def test_a_program_that_a_test_starts_dies_of_it(other: Any, tmp_path: Path):
    """Code whose file is launch.py, that hides all warnings and catches every Exception."""
    code = "import other_library\ntry:\n    other_library.warn(DeprecationWarning)\nexcept Exception:\n    pass\n"
    path = os.pathsep.join([os.environ["PYTHONPATH"], str(tmp_path)])
    for name, status in ((f"{ROOT}/launch.py", 1), ("elsewhere.py", 0)):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", f"exec(compile({code!r}, {name!r}, 'exec'))"],
            env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert ("launch.py:3 calls what is deprecated" in done.stderr) == (status == 1)
