"""The extension's registration in threestudio: registered as a whole, or a reason in place of a KeyError.

threestudio is played by a package with its registry, and by a launcher that loads custom/ as documented: an exception
is printed, and the run goes on. tests/threestudio/test_registration.py has the real one.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_import import HEAVY

ROOT = Path(__file__).resolve().parent.parent
EXTENSION = ROOT / "custom" / "threestudio-pullback"
ADAPTERS = EXTENSION / "pullback" / "adapters"

THREESTUDIO = """
__modules__ = {}

def register(name):
    def enter(cls):
        if name in __modules__:
            raise ValueError(f"{name} is there already")
        __modules__[name] = cls
        return cls
    return enter

def find(name):
    return __modules__[name]

info = warn = print
"""
LAUNCH = """
import importlib.util, os, sys, traceback

def load(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join("custom", name, "__init__.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        traceback.print_exc()
        print(f"cannot import {name}: {error}")

sys.path.insert(0, os.getcwd())
import threestudio
"""
LOAD = "for name in sorted(os.listdir('custom')): load(name)\n"
RUN = "threestudio.find('pullback-system')({}, resumed=False)\n"


class Framework:
    """A folder with threestudio's layout; `run` starts a process in it and returns (status, output)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("threestudio/__init__.py", THREESTUDIO)
        (root / "custom").mkdir()

    def write(self, path: str, text: str) -> Path:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)
        return self.root / path

    def stub(self, module: str, name: str) -> None:
        """`name` in that module of threestudio, which the adapters take a base class or a function from."""
        path = self.root / Path(*module.split(".")) / "__init__.py"
        before = path.read_text() if path.exists() else ""
        code = f"def {name}(*a, **k): pass\n" if name[0].islower() else f"class {name}:\n    class Config: pass\n"
        if name not in before:
            self.write(str(path.relative_to(self.root)), before + code)

    def toy(self, **adapters: str) -> Path:
        """The extension with other adapters and without PyTorch: a process takes no time."""
        folder = self.root / "custom" / "threestudio-pullback"
        folder.mkdir()
        for file in ("__init__.py", "registration.py"):
            shutil.copy(EXTENSION / file, folder)
        self.write("torch.py", '__version__ = "2.2.0"\n')
        for package in ("pullback", "pullback/adapters"):
            self.write(f"custom/threestudio-pullback/{package}/__init__.py", "")
        shared = "from threestudio import register\n"
        framework = ast.unparse(function(ADAPTERS / "_framework.py", "load_adapters"))
        for name, code in {"_framework": f"import importlib, pkgutil\n{framework}", **adapters}.items():
            self.write(f"custom/threestudio-pullback/pullback/adapters/{name}.py", shared + code)
        return folder

    def run(self, code: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-u", "-c", LAUNCH + code],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.root,
            timeout=120,
        )
        return done.returncode, done.stdout


def function(file: Path, name: str) -> ast.stmt:
    (node,) = (n for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef) and n.name == name)
    return node


def last_words(output: str) -> str:
    """The message that the run ended with."""
    return output.rpartition("\nImportError: ")[2]


@pytest.fixture
def framework(tmp_path: Path) -> Framework:
    (tmp_path / "three studio").mkdir()
    return Framework(tmp_path / "three studio")


SYSTEM = "@register('pullback-system')\nclass System:\n    def __init__(self, cfg, resumed): print('made', resumed)\n"
GUIDANCE = "@register('pullback-guidance')\nclass Guidance:\n    def __init__(self, cfg): pass\n"


def test_every_adapter_is_registered_once_and_nothing_heavy_is_imported(framework: Framework):
    for file in ADAPTERS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("threestudio."):
                for alias in node.names:
                    framework.stub(node.module or "", alias.name)
    (framework.root / "custom" / "threestudio-pullback").symlink_to(EXTENSION)
    status, output = framework.run(
        LOAD + "first = dict(threestudio.__modules__)\n" + LOAD + "assert threestudio.__modules__ == first\n"
        "registration, OF_IT = sys.modules['threestudio-pullback.registration'], ('threestudio', 'omegaconf')\n"
        "assert sorted(first) == sorted(registration.names()) and len(first) >= 3, first\n"
        "assert {cls.__module__.split('.')[1] for cls in first.values()} == {'adapters'}\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules and name not in OF_IT])\n"
    )
    assert (status, output) == (0, "heavy: []\n")


def test_a_missing_package_ends_the_run_with_the_command_that_installs_it(framework: Framework):
    framework.toy(a=SYSTEM, b="import surely_not_installed\n" + GUIDANCE)
    status, output = framework.run(LOAD + "print('names:', sorted(threestudio.__modules__))\n" + RUN)
    assert status == 1 and "KeyError" not in output
    assert "names: ['pullback-guidance', 'pullback-system']" in output
    words = last_words(output)
    assert "threestudio-pullback was not loaded: the package 'surely_not_installed' is missing.\n" in words
    assert f"{sys.executable} -m pip install surely_not_installed\n" in words
    assert "pullback-guidance, pullback-system" in words or "pullback-system, pullback-guidance" in words
    assert words in output.replace(words, "", 1)  # also where the extension is loaded


@pytest.mark.parametrize("use", ["(None)", ".Config()", ".create_from(None)"])
def test_a_placeholder_tells_however_it_is_used(framework: Framework, use: str):
    framework.toy(a=GUIDANCE + "import surely_not_installed\n")
    status, output = framework.run(LOAD + f"threestudio.find('pullback-guidance'){use}\n")
    assert status == 1 and "'surely_not_installed' is missing" in last_words(output)


def test_a_run_without_the_extension_is_not_stopped_by_it(framework: Framework):
    framework.toy(a="import surely_not_installed\n" + SYSTEM)
    status, output = framework.run(
        LOAD + "threestudio.register('other')(dict)\nprint(threestudio.find('other')(x=1))\n"
    )
    assert status == 0 and "{'x': 1}" in output and "surely_not_installed" in output


def test_loading_again_after_the_cause_is_mended_takes_the_placeholders_place(framework: Framework):
    framework.toy(a=SYSTEM, b="import mended\n" + GUIDANCE)
    again = "open('mended.py', 'w').close()\nimportlib.invalidate_caches()\n"
    status, output = framework.run("import importlib\n" + LOAD + again + LOAD + RUN)
    assert status == 0 and output.count("cannot import") == 1 and output.endswith("made False\n")


def test_a_name_conflict_says_with_which_extension(framework: Framework):
    framework.toy(a=SYSTEM, b=GUIDANCE)
    other = framework.write(
        "custom/another/__init__.py", "from threestudio import register\n" + GUIDANCE.replace("Guidance:", "Theirs:")
    )
    status, output = framework.run(LOAD + "print('holds', threestudio.find('pullback-guidance').__name__)\n" + RUN)
    assert status == 1 and "holds Theirs" in output
    words = last_words(output)
    assert "'pullback-guidance' is already registered, by Theirs of the extension 'another'" in words
    assert str(other) in words and "_disabled" in words


def test_an_old_python_is_told(framework: Framework):
    framework.toy(a=SYSTEM)
    status, output = framework.run("sys.version_info = (3, 9, 18)\n" + LOAD + RUN)
    assert status == 1 and "it needs Python 3.10 or newer" in last_words(output)


def test_an_old_pytorch_is_told(framework: Framework):
    framework.toy(a=SYSTEM)
    framework.write("torch.py", '__version__ = "1.13.1+cu117"\n')
    status, output = framework.run(LOAD + RUN)
    words = last_words(output)
    assert status == 1 and "it needs PyTorch 2.2 or newer, and this is 1.13.1+cu117" in words
    assert "pip install --upgrade 'torch>=2.2'" in words


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("from threestudio import no_such_name", "is another than the tested one"),
        ("import threestudio.no_such_module", "checkout 28d9d80"),
        ("import pullback.no_such_module", "is incomplete"),
        ("from torch import no_such_name", "-m pip install --upgrade torch"),
        ("from typing import NoSuchName", "NoSuchName"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("this is no Python", "SyntaxError"),
    ],
)
def test_any_failure_is_told_with_what_to_do(framework: Framework, code: str, part: str):
    framework.toy(a=SYSTEM, b=code + "\n")
    status, output = framework.run(LOAD + RUN)
    words = last_words(output)
    assert status == 1 and part in words and re.search(r"What to do: \S", words)
    assert "pip install --upgrade typing" not in words


def test_a_clone_without_its_package_is_told(framework: Framework):
    shutil.rmtree(framework.toy() / "pullback")
    status, output = framework.run(LOAD + RUN)
    assert status == 1 and "is incomplete" in last_words(output)


def test_the_linked_clone_wins_over_an_installed_pullback(framework: Framework):
    framework.toy(a=SYSTEM)
    framework.write("pullback/__init__.py", "raise RuntimeError('the other one')\n")
    assert framework.run(LOAD + RUN) == (0, "made False\n")


def test_another_pullback_that_is_imported_already_is_told(framework: Framework):
    framework.toy(a=SYSTEM)
    other = framework.write("pullback/__init__.py", "")
    status, output = framework.run("import pullback\n" + LOAD + RUN)
    words = last_words(output)
    assert status == 1 and str(other.parent.parent) in words and "threestudio-pullback" in words


def test_adapters_that_went_to_the_bundled_host_are_told(framework: Framework):
    framework.toy(a="register = lambda name: lambda cls: cls\n" + SYSTEM)
    status, output = framework.run(LOAD + RUN)
    assert status == 1 and "pullback-system went to the bundled host" in last_words(output)


def test_the_registration_is_small_and_runs_on_the_pythons_of_threestudio():
    assert len((EXTENSION / "__init__.py").read_text().splitlines()) <= 25
    for file in ("__init__.py", "registration.py"):
        ast.parse((EXTENSION / file).read_text(), feature_version=(3, 8))


def test_the_oldest_versions_are_those_of_the_package():
    project = (ROOT / "pyproject.toml").read_text()
    oldest = dict(re.findall(r"^OLDEST_(\w+) = \((\d+, \d+)\)", (EXTENSION / "registration.py").read_text(), re.M))
    assert f'requires-python = ">={oldest["PYTHON"].replace(", ", ".")}"' in project
    assert f'dependencies = ["torch>={oldest["TORCH"].replace(", ", ".")}"]' in project


# ---- the version in the log


def test_version_and_commit_are_the_repositorys():
    from pullback import __version__, version

    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True)
    commit = "unknown" if done.returncode else done.stdout.strip()
    assert version.describe() == f"threestudio-pullback {__version__}, commit {commit}"


def test_a_copy_in_another_repository_does_not_take_its_commit(tmp_path: Path):
    shutil.copytree(EXTENSION / "pullback", tmp_path / "pullback", ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "other"]):
        subprocess.run([*git, *command], check=True)
    code = "import pullback.version as v; print(v.__file__, v.commit())"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.stdout == f"{tmp_path / 'pullback' / 'version.py'} unknown\n", done.stderr
