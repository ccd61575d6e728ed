"""install.sh: links, unlinks, checks and clones; nothing else in either folder is touched. No network."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ROOT / "custom" / "threestudio-pullback"
LINK = Path("custom", "threestudio-pullback")
CONFIG = "custom/threestudio-pullback/configs/pullback-nerf.yaml"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "a place").mkdir()
    return tmp_path / "a place"


@pytest.fixture
def studio(place: Path) -> Path:
    return make_studio(place / "three studio's")


def make_studio(folder: Path) -> Path:
    (folder / "threestudio").mkdir(parents=True)
    (folder / "custom").mkdir()
    (folder / "custom" / "put_custom_extensions_here").touch()
    (folder / "launch.py").touch()
    (folder / "threestudio" / "__init__.py").write_text('__modules__ = {}\n__version__ = "0.2.3"\n')
    return folder


def install(*args: object, root: Path = ROOT, cwd: Path = ROOT, **env: Any) -> tuple[int, str]:
    """Status and output, stdout and stderr together, in a shell without an active environment."""
    done = subprocess.run(
        [root / "install.sh", *map(str, args)], cwd=cwd, env=environment(**env),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout


def environment(**more: Any) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX", "CUDA_VISIBLE_DEVICES")}
    return {**kept, "PYTHON": sys.executable, **more}


def program(folder: Path, name: str, script: str) -> str:
    """PATH with this script in front."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def contents(folder: Path) -> dict[str, str | bytes | None]:
    """Every path in the folder, links not followed, with where it leads or what it holds."""
    found: dict[str, str | bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def assert_refused(done: tuple[int, str], *words: str) -> None:
    status, output = done
    assert status == 2 and output.startswith("error: ") and output.count("\n") == 1, output
    for word in words:
        assert word in output


# ---- link


def test_install_links_extension_and_configs_and_changes_nothing_else(studio: Path):
    before = contents(studio)
    status, output = install("--threestudio", studio)
    assert status == 0 and f"Linked {studio / LINK} -> {OURS}" in output
    assert contents(studio) == {**before, str(LINK): str(OURS)}
    assert (studio / CONFIG).read_text() == (ROOT / "configs" / "pullback-nerf.yaml").read_text()
    assert (studio / LINK / "assets" / "tiny-sd" / "model_index.json").exists()  # named so in the tiny config


def test_a_second_install_says_so_and_uninstall_takes_back_just_the_link(studio: Path):
    before = contents(studio)
    install("--threestudio", studio)
    linked = contents(studio)
    status, output = install("--threestudio", studio)
    assert status == 0 and "Already linked" in output and contents(studio) == linked
    status, output = install("--threestudio", studio, "--uninstall")
    assert status == 0 and "Removed" in output and contents(studio) == before
    status, output = install("--threestudio", studio, "--uninstall")
    assert status == 0 and "Nothing to remove" in output and contents(studio) == before
    assert (OURS / "__init__.py").exists()


@pytest.mark.parametrize("written", ["three studio's", "./three studio's/", "../a place/three studio's//", "a link"])
def test_any_way_to_write_the_folder(studio: Path, written: str):
    (studio.parent / "a link").symlink_to(studio.name)
    assert install("--threestudio", written, cwd=studio.parent, CDPATH="/")[0] == 0
    assert (studio / LINK).samefile(OURS)
    assert "linked: " in install("--threestudio", written, "--check", cwd=studio.parent)[1]
    assert install("--threestudio", written, "--uninstall", cwd=studio.parent)[0] == 0
    assert not (studio / LINK).is_symlink()


def clone_of_ours(folder: Path) -> Path:
    """What install.sh needs of the project, in another folder."""
    extension = folder / LINK
    extension.mkdir(parents=True)
    for name in ("install.sh", "tools"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "install.sh").unlink()
    (folder / "install.sh").write_text((ROOT / "install.sh").read_text())
    (folder / "install.sh").chmod(0o755)
    (extension / "pullback").symlink_to(OURS / "pullback")
    (extension / "configs").symlink_to("pullback/configs")
    return folder


def test_a_clone_with_spaces_that_moves_is_linked_anew(studio: Path):
    clone = clone_of_ours(studio.parent / "our clone")
    assert install("--threestudio", studio, root=clone)[0] == 0
    assert (studio / CONFIG).is_file()
    moved = clone.rename(clone.with_name("moved here"))
    status, output = install("--threestudio", studio, "--check", root=moved)
    assert status == 1 and f"broken link to {clone / LINK}" in output
    status, output = install("--threestudio", studio, root=moved)
    assert status == 0 and f"Replaced a link to {clone / LINK}, which is gone" in output
    assert os.readlink(studio / LINK) == str(moved / LINK)


def test_a_broken_link_is_uninstalled(studio: Path):
    (studio / LINK).symlink_to("/gone/custom/threestudio-pullback")
    assert install("--threestudio", studio, "--uninstall")[0] == 0
    assert not (studio / LINK).is_symlink()


def test_the_link_of_another_clone_is_left_alone(studio: Path):
    other = clone_of_ours(studio.parent / "other clone")
    install("--threestudio", studio, root=other)
    before = contents(studio)
    assert_refused(install("--threestudio", studio), str(other / LINK), "remove that link first")
    assert_refused(install("--threestudio", studio, "--uninstall"), str(other / LINK), "left as it is")
    status, output = install("--threestudio", studio, "--check")
    assert status == 1 and "another clone is linked" in output and contents(studio) == before


def test_the_command_that_an_error_shows_can_be_pasted(studio: Path):
    (studio / LINK).symlink_to(studio.parent)
    _, output = install("--threestudio", studio)
    command = output.partition("remove that link first: ")[2]
    subprocess.run(["bash", "-c", command], check=True)
    assert install("--threestudio", studio)[0] == 0


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_link_is_left_alone(studio: Path, kind: str):
    if kind == "file":
        (studio / LINK).write_text("mine")
    else:
        (studio / LINK).mkdir()
        (studio / LINK / "mine").touch()
    before = contents(studio)
    assert_refused(install("--threestudio", studio), str(studio / LINK), "move it away")
    assert_refused(install("--threestudio", studio, "--uninstall"), "left as it is")
    assert install("--threestudio", studio, "--check")[0] == 1
    assert contents(studio) == before


@pytest.mark.parametrize("missing", ["launch.py", "threestudio/__init__.py"])
@pytest.mark.parametrize("action", [[], ["--check"], ["--uninstall"]])
def test_a_folder_that_is_no_threestudio(studio: Path, missing: str, action: list[str]):
    (studio / missing).unlink()
    assert_refused(install("--threestudio", studio, *action), str(studio), "is no threestudio", missing)


def test_a_folder_that_is_not_there(place: Path):
    assert_refused(install("--threestudio", "none", cwd=place), "there is no folder none")


def test_a_threestudio_without_custom(studio: Path):
    (studio / "custom" / "put_custom_extensions_here").unlink()
    (studio / "custom").rmdir()
    assert_refused(install("--threestudio", studio), "no folder custom")
    assert not (studio / "custom").exists()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that not even root can write to")
def test_a_folder_that_cannot_be_written_to(studio: Path):
    (studio / "custom" / "put_custom_extensions_here").unlink()
    (studio / "custom").rmdir()
    (studio / "custom").symlink_to("/proc")
    assert_refused(install("--threestudio", studio), f"cannot make the link {studio / LINK}", "writable")


def test_a_copy_that_lost_its_symbolic_links(studio: Path):
    clone = clone_of_ours(studio.parent / "our clone")
    (clone / LINK / "configs").unlink()
    (clone / LINK / "configs").write_text("pullback/configs")
    assert_refused(install("--threestudio", studio, root=clone), "symbolic links", "core.symlinks=true")
    assert not (studio / LINK).is_symlink()


# ---- arguments


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--chekc"], "unknown argument --chekc"),
        (["somewhere"], "unknown argument somewhere"),
        (["--check"], "--check needs --threestudio DIR"),
        (["--uninstall"], "--uninstall needs --threestudio DIR"),
        (["--threestudio"], "--threestudio needs a folder"),
        (["--threestudio", ""], "--threestudio needs a folder"),
        (["--threestudio", "--check"], "--threestudio needs a folder"),
        (["--clone"], "--clone needs a folder"),
        (["--clone", "x", "--check"], "--check does not go with --clone"),
        (["--threestudio", "x", "--clone", "y"], "do not go together"),
        (["--threestudio", "x", "--check", "--uninstall"], "do not go together"),
    ],
)
def test_wrong_arguments_get_one_sentence(args: list[str], words: str):
    assert_refused(install(*args), words)


def test_help():
    status, output = install("--help")
    assert status == 0
    for word in ("--threestudio DIR", "--check", "--uninstall", "--clone DIR", "PYTHON=", "TORCH_INDEX_URL=https://"):
        assert word in output


def test_a_python_that_does_not_run(studio: Path):
    status, output = install("--threestudio", studio, "--check", PYTHON="/no/python")
    assert status == 2 and output.splitlines()[-1].startswith("error: /no/python does not run")


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_the_active_environment_is_the_one_that_is_checked(studio: Path, variable: str):
    env = studio.parent / "an env"
    program(env / "bin", "python", 'echo "run: $0"')
    _, output = install("--threestudio", studio, "--check", PYTHON="", **dict[str, Any]({variable: str(env)}))
    assert f"run: {env}/bin/python\n" in output


# ---- check


def metadata_of(folder: Path, **versions: str) -> str:
    """A folder for PYTHONPATH in which the named distributions are installed, as far as metadata tells."""
    for name, version in versions.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return str(folder)


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("check_threestudio", ROOT / "tools" / "check_threestudio.py")
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """A Python without packages other than those on PYTHONPATH."""
    program(tmp_path / "bare", "python", f'exec {shlex.quote(sys.executable)} -S "$@"')
    return str(tmp_path / "bare" / "python")


def everything(folder: Path, **other: str) -> str:
    """As `metadata_of`, all packages in versions that are in range, but for `other`."""
    good = {}
    for package in tool().PACKAGES:
        bound = package.needed.lstrip(">=") if package.needed.startswith(">") else "2.5.1"
        good[package.names[0].replace("-", "_")] = bound
    return metadata_of(folder, **{**good, **other})


def rows(output: str) -> dict[str, list[str]]:
    return {
        line.split()[0]: line.split() for line in output.splitlines() if re.match(r"[\w-]+ {2,}\S+ +(any|[<>])", line)
    }


NO_GPU: dict[str, Any] = {"CUDA_VISIBLE_DEVICES": ""}


def test_check_is_content_when_all_is_there(studio: Path, bare: str, tmp_path: Path):
    install("--threestudio", studio, PYTHON=bare)
    before = contents(studio)
    path = everything(tmp_path / "site")
    status, output = install("--threestudio", studio, "--check", PYTHON=bare, PYTHONPATH=path, **NO_GPU)
    assert status == 0 and contents(studio) == before
    assert "All packages are there." in output and f"linked: {studio / LINK} -> {OURS}" in output
    found = rows(output)
    assert found["torch"][1:] == ["2.2", ">=2.2", "ok"] and found["libigl"][1:] == ["2.5.1", "<2.6", "ok"]
    assert len(found) == len(tool().PACKAGES)


def test_check_wants_the_link(studio: Path, bare: str, tmp_path: Path):
    path = everything(tmp_path / "site")
    status, output = install("--threestudio", studio, "--check", PYTHON=bare, PYTHONPATH=path, **NO_GPU)
    assert status == 1 and "not linked; run: " in output
    command = re.search(r"not linked; run: (.*)", output)
    assert command is not None
    subprocess.run(["bash", "-c", command[1]], check=True, capture_output=True, env=environment())
    assert (studio / LINK).samefile(OURS)


@pytest.mark.parametrize(
    ("package", "version", "told"),
    [
        ("diffusers", "0.18.2", "too old pip install 'diffusers>=0.19'"),
        ("torch", "2.1.2+cu121", "too old pip install 'torch>=2.2'"),
        ("libigl", "2.6.1", "too new pip install libigl==2.5.1"),
        ("transformers", "4.28.0.dev0", "ok"),
        ("torch", "2.13.0+cpu", "ok"),
        ("libigl", "2.5.1", "ok"),
    ],
)
def test_versions_are_held_against_ranges(
    studio: Path, bare: str, tmp_path: Path, package: str, version: str, told: str
):
    install("--threestudio", studio, PYTHON=bare)
    path = everything(tmp_path / "site", **{package: version})
    status, output = install("--threestudio", studio, "--check", PYTHON=bare, PYTHONPATH=path, **NO_GPU)
    assert " ".join(rows(output)[package][3:]) == told and rows(output)[package][1] == version
    assert status == (0 if told == "ok" else 1)


def test_a_cpu_needs_no_cuda_packages_and_gets_the_cpu_command(studio: Path, bare: str):
    install("--threestudio", studio, PYTHON=bare)
    status, output = install("--threestudio", studio, "--check", PYTHON=bare, **NO_GPU)
    assert status == 1 and "CPU (no GPU is seen)" in output
    assert rows(output)["tinycudann"][3:] == ["not", "needed", "on", "a", "CPU"]
    assert f"-m pip install -r {ROOT}/requirements/threestudio-today.txt" in output
    assert f"launch.py --threestudio {shlex.quote(str(studio))} " in output


def test_a_gpu_needs_them_and_gets_the_commands(studio: Path, bare: str, tmp_path: Path):
    path = program(tmp_path / "driver", "nvidia-smi", "echo Some GPU")
    site = Path(everything(tmp_path / "site"))
    (site / "torch").mkdir()
    (site / "torch" / "__init__.py").write_text("raise SystemExit('imported')")
    (site / "torch" / "version.py").write_text("cuda: Optional[str] = '12.1'\n")
    install("--threestudio", studio, PYTHON=bare)
    with_gpu: dict[str, Any] = {"PATH": path, "PYTHON": bare, "PYTHONPATH": str(site)}
    status, output = install("--threestudio", studio, "--check", **with_gpu)
    assert status == 0 and "GPU (Some GPU; PyTorch is built for CUDA 12.1)" in output
    assert f"cd {shlex.quote(str(studio))} && " in output and f"launch.py --config {CONFIG}" in output

    next(site.glob("tinycudann*")).joinpath("METADATA").unlink()
    next(site.glob("tinycudann*")).rmdir()
    status, output = install("--threestudio", studio, "--check", **with_gpu)
    assert status == 1 and "git+https://github.com/NVlabs/tiny-cuda-nn" in output
    tools, build = steps(output)
    assert tools == ["setuptools<81", "wheel"]
    assert build[0] == "--no-build-isolation" and build[1].endswith("#subdirectory=bindings/torch")

    (site / "torch" / "version.py").write_text("cuda: Optional[str] = None\n")
    assert "built without CUDA" in install("--threestudio", studio, "--check", **with_gpu)[1]
    assert "no GPU is seen" in install("--threestudio", studio, "--check", **with_gpu, CUDA_VISIBLE_DEVICES="-1")[1]


def steps(output: str) -> list[list[str]]:
    """What each pip command of the report for a GPU is given, read as a shell reads it."""
    lines = output.partition("packages to install, in this order:\n")[2].splitlines()
    words = [shlex.split(line) for line in lines if line.startswith("  /") and " -m pip install " in line]
    return [line[line.index("install") + 1 :] for line in words]


def test_a_gpu_gets_an_order_that_works(studio: Path, bare: str, tmp_path: Path):
    """PyTorch 2.11 first, with which nerfacc compiles, then what builds against it."""
    path = program(tmp_path / "driver", "nvidia-smi", "echo Some GPU")
    install("--threestudio", studio, PYTHON=bare)
    with_gpu: dict[str, Any] = {"PATH": path, "PYTHON": bare}
    status, output = install("--threestudio", studio, "--check", **with_gpu)
    first, then, tools, build = steps(output)
    assert status == 1 and first == ["torch==2.11.0", "torchvision"] and tools[0] == "setuptools<81"
    assert {"nerfacc>=0.5.2", "ninja"} <= set(then) and not {"torch", "torchvision", "setuptools"} & {
        name[:10] for name in then
    }
    assert build[0] == "--no-build-isolation" and [name.rpartition("/")[2] for name in build[2:]] == [
        "nvdiffrast.git", "envlight.git",
    ]  # fmt: skip
    assert len(first + then + build) - 1 == len(tool().PACKAGES)
    assert "C++20" in output and "nvcc" in output and "requirements/threestudio-today.txt" in output


@pytest.mark.parametrize(("version", "compiled"), [("2.13.0+cu130", False), ("2.13.0", True), ("2.11.0+cu130", False)])
def test_a_pytorch_that_nerfacc_does_not_compile_with(
    version: str, compiled: bool, studio: Path, bare: str, tmp_path: Path
):
    path = program(tmp_path / "driver", "nvidia-smi", "echo Some GPU")
    site = Path(everything(tmp_path / "site", torch=version))
    for module in ("torch", "nerfacc"):
        (site / module).mkdir()
        (site / module / "__init__.py").touch()
    (site / "torch" / "version.py").write_text("cuda: Optional[str] = '13.0'\n")
    if compiled:
        (site / "nerfacc" / "csrc.cpython-311-x86_64-linux-gnu.so").touch()
    install("--threestudio", studio, PYTHON=bare)
    gpu: dict[str, Any] = {"PATH": path, "PYTHON": bare, "PYTHONPATH": str(site)}
    status, output = install("--threestudio", studio, "--check", **gpu)
    fine = compiled or version.startswith("2.11")
    assert status == (0 if fine else 1)
    told = "ok" if fine else "too new for nerfacc pip install torch==2.11.0"
    assert " ".join(rows(output)["torch"][3:]) == told
    assert fine or steps(output) == [["torch==2.11.0"]]


# ---- .venv


@pytest.fixture
def fresh(tmp_path: Path) -> tuple[Path, Path]:
    """A clone without .venv, and a Python whose -m venv makes one that only writes down what pip is asked for."""
    clone = clone_of_ours(tmp_path / "a clone")
    (clone / "requirements" / "locked").mkdir(parents=True)
    for name in ("requirements.txt", "requirements/locked/requirements.txt", "pyproject.toml"):
        (clone / name).write_text((ROOT / name).read_text())
    log = tmp_path / "log"
    script = f"""
case "$*" in
    "-m venv .venv") mkdir -p .venv/bin; ln -s "$0" .venv/bin/python; ln -s /bin/true .venv/bin/pullback ;;
    "-m pip"*) echo "$*" >> {shlex.quote(str(log))}
        case "$*" in *gone*) echo "no such host" >&2; exit 1 ;; esac ;;
    *) exec {shlex.quote(sys.executable)} "$@" ;;
esac"""
    program(tmp_path / "bin", "python", script)
    return clone, log


@pytest.mark.parametrize("url", ["", "https://download.pytorch.org/whl/cpu"])
def test_torch_index_url_is_where_pytorch_alone_comes_from(fresh: tuple[Path, Path], tmp_path: Path, url: str):
    clone, log = fresh
    env: dict[str, Any] = {"PYTHON": str(tmp_path / "bin" / "python"), "TORCH_INDEX_URL": url}
    status, output = install(root=clone, cwd=tmp_path, **env)
    assert status == 0 and "Done." in output
    rest, torch, ours = log.read_text().splitlines()
    assert torch.endswith(f" --index-url {url} torch==2.13.0" if url else "--no-compile torch==2.13.0")
    assert rest.endswith("--no-deps --require-hashes -r requirements/locked/requirements.txt")
    assert ours.endswith("--no-build-isolation --no-deps -e .")
    assert "index" not in rest + ours
    assert install(root=clone, cwd=tmp_path, **env) == (0, "") and len(log.read_text().splitlines()) == 3


def test_an_index_that_is_not_there_is_one_sentence_and_tried_again(fresh: tuple[Path, Path], tmp_path: Path):
    clone, log = fresh
    env: dict[str, Any] = {"PYTHON": str(tmp_path / "bin" / "python")}
    status, output = install(root=clone, cwd=tmp_path, TORCH_INDEX_URL="https://gone.example/whl", **env)
    last = output.splitlines()[-1]
    assert status == 2 and last.startswith(
        "error: cannot install PyTorch from TORCH_INDEX_URL=https://gone.example/whl"
    )
    assert install(root=clone, cwd=tmp_path, **env)[0] == 0 and len(log.read_text().splitlines()) == 5


def test_ranges_are_those_of_the_package_and_of_the_sets_that_are_tested():
    check = tool()
    stated = dict(re.findall(r'"([\w-]+)>=([\d.]+)[",]', (ROOT / "pyproject.toml").read_text()))
    sets = [(ROOT / "requirements" / name).read_text() for name in ("threestudio-today.txt", "threestudio-2023.txt")]
    sets[0] += (ROOT / "requirements.txt").read_text()
    for package in check.PACKAGES:
        name = package.names[0]
        if name in stated and name != "numpy":  # threestudio's own is older than ours
            assert package.needed == f">={stated[name]}", name
        for text in sets:
            pinned = re.search(rf"^{name}==(\S+)", text, re.M)
            assert package.gpu_only or (pinned and check.verdict(package, pinned[1]) == "ok"), name


def test_the_links_of_the_repository_lead_into_the_package():
    for link in (ROOT / "configs", OURS / "configs", OURS / "assets"):
        assert link.is_symlink() and link.samefile(OURS / "pullback" / link.name)


# What the package imports under another name than pip's; what only a run with real threestudio has; what only a type
# checker reads, and torch brings.
PIP_NAMES = {"PIL": "pillow", "skimage": "scikit-image", "warp": "warp-lang", "yaml": "pyyaml"}
NOT_OURS = {"cv2", "threestudio", "tinycudann", "tomesd", "typing-extensions"}


def third_parties(folder: Path) -> set[str]:
    """The distributions that the Python files of a folder import, also inside functions, by pip's names."""
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    found -= {*sys.stdlib_module_names, "pullback"}
    return {PIP_NAMES.get(name, name).replace("_", "-") for name in found}


def declared() -> dict[str, set[str]]:
    """What pyproject.toml says pip installs: '' without extras, and each extra."""
    tomllib = pytest.importorskip("tomllib")  # since Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: {re.split(r"[\[<>=~!; ]", line)[0] for line in lines} for extra, lines in groups.items()}


def test_what_the_package_imports_is_declared():
    imported = third_parties(OURS / "pullback") - NOT_OURS
    extras = declared()
    needed = set().union(*(extras[name] for name in ("", "host", "models", "view", "ray", "slurm")))
    assert imported <= needed, imported
    at_run_time = {"imageio-ffmpeg"}  # imageio calls it
    assert needed <= imported | at_run_time


def test_what_is_declared_has_a_version_in_the_requirements():
    files = ROOT / "requirements.txt", ROOT / "requirements" / "scale.txt"
    pinned = {name for file in files for name in re.findall(r"^([\w-]+)==", file.read_text(), re.M)}
    assert set().union(*declared().values()) <= pinned


@pytest.mark.parametrize(
    "source",
    [
        "requirements.txt", "requirements/scale.txt", "requirements/threestudio-today.txt",
        "requirements/threestudio-2023.txt",
    ],
)  # fmt: skip
def test_what_is_installed_has_hashes_and_the_versions_of_the_requirements(source: str):
    """All but PyTorch and its CUDA packages; `tools/lock.sh` writes the files."""
    text = (ROOT / source).read_text()
    if included := re.search(r"^-r \.\./(\S+)", text, re.M):
        text += (ROOT / included[1]).read_text()
    wanted = {name.lower().replace("_", "-"): version for name, version in re.findall(r"^([\w-]+)==(\S+)", text, re.M)}
    entries = re.split(r"\n(?=[^ #])", (ROOT / "requirements" / "locked" / Path(source).name).read_text())[1:]
    locked = [re.match(r"([\w.-]+)==(\S+)", entry) for entry in entries]
    assert all(locked) and all(" --hash=sha256:" in entry for entry in entries)
    versions = {match[1]: match[2] for match in locked if match}
    assert wanted.items() - {("torch", wanted["torch"])} <= versions.items(), "run tools/lock.sh"
    assert not {name for name in versions if name.startswith(("nvidia-", "cuda-"))} | (
        versions.keys() & {"torch", "triton"}
    )


# ---- threestudio's version and commit, and clones of it


def git(folder: Path, *args: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def upstream(place: Path) -> tuple[Path, str]:
    """A repository with the pinned commit below its tip."""
    folder = make_studio(place / "up stream")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    first = git(folder, "rev-parse", "HEAD")
    git(folder, "commit", "-q", "--allow-empty", "-m", "two")
    return folder, first


@pytest.mark.parametrize("existing", [False, True])
def test_clone_takes_the_commit_and_links(upstream: tuple[Path, str], place: Path, existing: bool):
    source, commit = upstream
    if existing:
        (place / "new one").mkdir()
    env: dict[str, Any] = {"THREESTUDIO_URL": str(source), "THREESTUDIO_COMMIT": commit}
    status, output = install("--clone", "new one", cwd=place, **env)
    assert status == 0, output
    assert git(place / "new one", "rev-parse", "HEAD") == commit != git(source, "rev-parse", "HEAD")
    assert (place / "new one" / LINK).samefile(OURS)
    assert f"0.2.3, commit {commit[:7]} (tested: 0.2.3, commit 28d9d80)" in output
    assert_refused(install("--clone", "new one", cwd=place, **env), "new one", "not empty")


@pytest.mark.parametrize("existing", [False, True])
def test_a_clone_that_fails_leaves_nothing(upstream: tuple[Path, str], place: Path, existing: bool):
    if existing:
        (place / "new").mkdir()
    before = contents(place)
    for url, words in (
        (str(upstream[0]), "28d9d80d9d00f308244adfcf3be8b17ca0cb6465"),
        (f"{place}/none", "cannot clone"),
    ):
        status, output = install("--clone", place / "new", THREESTUDIO_URL=url)
        assert status == 2 and output.count("\n") == 2 and words in output.splitlines()[1]
        assert contents(place) == before


def test_a_clone_that_is_stopped_leaves_nothing(place: Path, tmp_path: Path):
    path = program(
        tmp_path / "bin", "git", f"mkdir -p {shlex.quote(str(place))}/new/.git; touch started; exec sleep 60"
    )
    process = subprocess.Popen(
        [ROOT / "install.sh", "--clone", place / "new"], env=environment(PATH=path), cwd=tmp_path,
        start_new_session=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(10) != 0 and list(place.iterdir()) == []


def test_clone_wants_a_parent_folder(place: Path):
    assert_refused(install("--clone", place / "none" / "new"), "there is no folder", str(place / "none"))
