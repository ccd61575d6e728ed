"""The installed wheel, outside the checkout: what it holds, a demo in an empty folder, the sentence without extras."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from pullback import cli, resources
from pullback.host.arguments import command_line
from pullback.version import __version__

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "custom" / "threestudio-pullback" / "pullback"
SMALL = (
    "system.guidance.levels=2", "system.guidance.cycles=1", "system.guidance.fit_steps=2", "data.batch_size=4",
    "system.guidance.fit_rays=256", "system.geometry.grid_size=[12,12,12]", "system.geometry.isosurface_resolution=12",
    "data.n_test_views=8", "data.n_val_views=1", "data.eval_width=16", "data.eval_height=16",
)  # fmt: skip


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """What a command prints, stdout and stderr together, where no path leads to this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**kept, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(PACKAGE.parent, source / "custom" / "threestudio-pullback", symlinks=True, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", built, source, cwd=source)
    (made,) = built.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel alone."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python"]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder.parent)
    return folder


def environment(folder: Path, packages: Path) -> Path:
    """The folder of the environment's programs, with a view of a folder of packages.

    Python reads no .pth file in a folder that a .pth file names, so an editable install there stays out of sight.
    """
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(f"{packages}\n")
    return folder / "bin"


def needs(name: str) -> set[str]:
    """A distribution and all that it needs, extras left out, by name."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # of another platform
            continue
        if name not in found:
            found.add(name)
            waiting += [m[0] for line in required if ";" not in line and (m := re.match(r"[\w.-]+", line))]
    return found


def test_the_wheel_holds_configs_assets_and_the_licence_and_no_tests(wheel: Path):
    held = set(zipfile.ZipFile(wheel).namelist())
    for folder in (resources.CONFIGS, resources.ASSETS):
        shipped = {f"pullback/{p.relative_to(PACKAGE).as_posix()}" for p in folder.rglob("*") if p.is_file()}
        assert shipped and shipped <= held
    info = f"threestudio_pullback-{__version__}.dist-info"
    assert any(name.startswith(info) and name.endswith("/LICENSE") for name in held)
    assert {"pullback/py.typed", "pullback/evaluate/compare/report/page.html"} <= held
    assert {name.partition("/")[0] for name in held} == {"pullback", info}
    modules = {f"pullback/{p.relative_to(PACKAGE).as_posix()}" for p in PACKAGE.rglob("*.py")}
    assert {name for name in held if name.endswith(".py")} == modules


def test_the_demo_runs_in_an_empty_folder_and_the_commands_it_leaves_run(installed: Path, tmp_path: Path):
    programs = environment(installed, Path(sysconfig.get_paths()["purelib"]))
    empty = tmp_path / "empty"
    empty.mkdir()
    where = run(programs / "python", "-c", "import pullback; print(pullback.__file__)", cwd=empty)
    assert Path(where.strip()).is_relative_to(installed)
    assert run(programs / "pullback", "--version", cwd=empty) == f"pullback {__version__}\n"

    output = run(programs / "pullback", "demo", "--prompt", "a red cube", *SMALL, cwd=empty)
    assert output.count("Look at:") == 1
    shown = dict(re.findall(r"^  (page|turntable|views|mesh) +(\S+)$", output, re.M))
    assert [*shown] == ["page", "turntable", "views", "mesh"]
    assert all((empty / path).stat().st_size > 0 for path in shown.values())

    run_folder = next(empty.glob("outputs/demo/*"))
    typed = (run_folder / "cmd.txt").read_text().splitlines()[0]
    assert shlex.split(typed)[:2] == [str(programs / "pullback"), "launch"]
    test = typed.replace("--train", "--test") + f" resume={run_folder.relative_to(empty)}/ckpts/last.ckpt"
    run("bash", "-c", test, cwd=empty)

    assert (run_folder / "configs" / "raw.yaml").read_bytes() == resources.TINY_MV_CONFIG.read_bytes()


def test_with_torch_alone_the_package_imports_and_the_demo_says_what_to_install(installed: Path, tmp_path: Path):
    packages, empty = tmp_path / "packages", tmp_path / "empty"
    packages.mkdir()
    empty.mkdir()
    site = Path(sysconfig.get_paths()["purelib"])
    for name in needs("torch"):
        files = importlib.metadata.files(name) or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            if not top.endswith(".pth"):
                (packages / top).symlink_to(site / top)
    programs = environment(installed, packages)
    run(programs / "python", "-W", "ignore", "-c", "import pullback; pullback.karras_sigmas(3, 0.1, 1.0)", cwd=empty)
    told = run(programs / "pullback", "demo", cwd=empty, status=2).splitlines()[-1]
    assert told.startswith("error: the package ") and told.endswith('pip install "threestudio-pullback[host,models]"')
    assert not list(empty.iterdir())


# ---- what the test above relies on


@pytest.mark.parametrize(
    ("script", "start"),
    [
        ("launch.py", "{python} launch.py"),
        ("../there/launch.py", "{python} ../there/launch.py"),
        ("/usr/local/x y/pullback", "'/usr/local/x y/pullback' launch"),
        ("/venv/lib/pullback/__main__.py", "{python} -m pullback launch"),
    ],
)
def test_a_command_is_written_as_this_process_was_started(script: str, start: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", [script, "demo"])
    monkeypatch.setattr(sys, "executable", "/a/python")
    assert command_line(["--train", "x=a b"]) == start.format(python="/a/python") + " --train 'x=a b'"


@pytest.mark.parametrize("start", ["{}/pullback", "bin/pullback"])
def test_a_program_goes_by_its_path_whatever_leads_to_it(start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # another shell has another PATH
    monkeypatch.setattr(sys, "argv", [start.format(tmp_path / "bin")])
    assert command_line(["--test"]) == f"{tmp_path}/bin/pullback launch --test"


def test_a_program_without_a_path_is_the_interpreters(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["pullback"])
    assert command_line(["--test"]) == f"{sys.executable} -m pullback launch --test"


def test_shipped_files_go_by_the_names_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pullback-nerf-tiny.yaml", "configs/pullback-nerf-tiny.yaml"):
        assert resources.find(name) == resources.TINY_CONFIG
    assert resources.find("custom/threestudio-pullback/assets/tiny-sd") == resources.TINY_MODEL
    assert resources.find("nowhere.yaml") == Path("nowhere.yaml")
    (tmp_path / "pullback-nerf-tiny.yaml").touch()
    assert resources.find("pullback-nerf-tiny.yaml") == Path("pullback-nerf-tiny.yaml")


def test_the_commands_of_the_documents_find_shipped_files_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    words = "compare --config configs/pullback-nerf-tiny.yaml --prompts configs/compare/tiny-12.txt --seeds 0 --dry-run"
    assert cli.main([*words.split(), "--methods", "pullback,configs/compare/methods/sds.yaml"]) == 0
    assert "hours for 12 runs" in capsys.readouterr().out
