"""The registration in real threestudio: what loading adds, and what a run says when loading fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import EXTENSION, Run, Threestudio
from pullback.host import only_threestudio
from pullback.host.parts import load_parts
from pullback.host.registry import is_registered

# as threestudio's launch.py: the folder's __init__.py, under the folder's name
LOAD = f"""
import importlib.util, sys
sys.path[:0] = [{str(EXTENSION)!r}, "."]
from pullback.cuda_standins.install import install
install()
import threestudio

def load():
    spec = importlib.util.spec_from_file_location("threestudio-pullback", "custom/threestudio-pullback/__init__.py")
    module = sys.modules["threestudio-pullback"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

"""
BROKEN = """
import sys

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "pullback.adapters.systems.sampling":
            raise ModuleNotFoundError("No module named 'surely_missing'", name="surely_missing")

sys.meta_path.insert(0, Broken())
"""


def run(threestudio: Threestudio, code: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD + code],
        cwd=threestudio.root, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every process of the test, one of the adapters fails to be imported."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


def test_loading_registers_our_names_and_imports_no_package_that_threestudio_has_not(threestudio: Threestudio):
    done = run(
        threestudio,
        """
names, modules = set(threestudio.__modules__), set(sys.modules)
load()
first = dict(threestudio.__modules__)
load()
assert threestudio.__modules__ == first
assert {"pullback-system", "pullback-guidance"} <= set(first) - names
assert all(name.startswith("pullback-") for name in set(first) - names - {"point-set", "point-renderer"})
top = lambda names: {name.partition(".")[0] for name in names}
print("imported:", sorted(top(sys.modules) - top(modules) - sys.stdlib_module_names))
""",
    )
    assert done.stdout.endswith("imported: ['threestudio-pullback']\n"), done.stdout + done.stderr


def test_a_name_conflict_names_the_other_extension(threestudio: Threestudio):
    done = run(threestudio, "threestudio.register('pullback-guidance')(type('Theirs', (), {}))\nload()\n")
    assert done.returncode == 1
    assert "the name 'pullback-guidance' is already registered, by Theirs" in done.stderr.rpartition("ImportError:")[2]


def test_a_failed_import_ends_a_run_of_ours_with_package_and_command(broken: None, threestudio: Threestudio):
    config = "custom/threestudio-pullback/configs/pullback-nerf-tiny.yaml"
    done = threestudio.run(
        "--config", config, "--train", "system.prompt_processor.prompt=a red cube", "use_timestamp=false"
    )
    assert done.returncode != 0 and "KeyError" not in done.stdout and "(IMPORT FAILED)" in done.stdout
    words = done.stdout.rpartition("\nImportError: ")[2]
    assert "threestudio-pullback was not loaded: the package 'surely_missing' is missing" in words, done.stdout
    assert f"{sys.executable} -m pip install surely_missing" in words


def test_a_failed_import_does_not_stop_a_run_that_is_not_ours(
    broken: None, launch: Callable[..., Run], threestudio: Threestudio
):
    run = launch("configs/dreamfusion-sd.yaml", "--train", *threestudio.small_hash_grid)
    assert "surely_missing" in run.output and run.checkpoint.is_file()


def test_the_host_knows_which_names_threestudio_has(threestudio: Threestudio):
    load_parts()
    source = "".join(file.read_text() for file in (threestudio.root / "threestudio").rglob("*.py"))
    names = set(re.findall(r"@(?:threestudio\.)?register\(\"(.+?)\"\)", source))
    assert len(names) >= 55
    assert {name for name in names if not is_registered(name)} == only_threestudio.NAMES
