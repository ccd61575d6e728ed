"""Which of threestudio's packages this Python has, and what to run; `install.sh --threestudio DIR` calls it.

    python tools/check_threestudio.py ~/threestudio

Reads package metadata and imports none of the packages. Standard library only, and Python 3.8, to be able to say that
it is too old. Exit status: 0 usable, 1 something is missing.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from typing import NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
OLDEST_PYTHON = (3, 10)
ON_CPU = os.path.join(ROOT, "requirements", "threestudio-today.txt")
OLD_SET = os.path.join(ROOT, "requirements", "threestudio-2023.txt")


class Package(NamedTuple):
    """A package that `import threestudio` or a run of the shipped configs needs.

    needed: ">=1.2" (at least) or "<1.2" (below), empty for any version. source: what pip installs. built: pip
    compiles it against the PyTorch that is installed.
    """

    module: str
    names: tuple[str, ...]  # any of these distributions
    needed: str = ""
    source: str = ""
    gpu_only: bool = False  # has a stand-in on a CPU
    built: bool = False

    @property
    def install(self) -> str:
        """What pip installs."""
        return self.source or self.names[0] + self.needed


PACKAGES = (
    Package("torch", ("torch",), ">=2.2"),
    Package("pytorch_lightning", ("pytorch-lightning",), ">=2.0"),
    Package("diffusers", ("diffusers",), ">=0.19"),
    Package("transformers", ("transformers",), ">=4.28"),
    Package("accelerate", ("accelerate",), ">=0.20"),
    Package("safetensors", ("safetensors",), ">=0.4"),
    Package("omegaconf", ("omegaconf",), ">=2.3"),
    Package("nerfacc", ("nerfacc",), ">=0.5.2"),
    Package("igl", ("libigl",), "<2.6", "libigl==2.5.1"),  # 2.6 renamed a function that threestudio imports
    Package("numpy", ("numpy",)),
    Package("cv2", ("opencv-python-headless", "opencv-python", "opencv-contrib-python")),
    Package("einops", ("einops",)),
    Package("imageio", ("imageio",), ">=2.28"),
    Package("imageio_ffmpeg", ("imageio-ffmpeg",), ">=0.4"),
    Package("jaxtyping", ("jaxtyping",)),
    Package("matplotlib", ("matplotlib",), ">=3.8"),
    Package("requests", ("requests",)),
    Package("scipy", ("scipy",), ">=1.10"),
    Package("tensorboard", ("tensorboard",), ">=2.11"),
    Package("torchmetrics", ("torchmetrics",)),
    Package("trimesh", ("trimesh",), ">=4"),
    Package("typeguard", ("typeguard",)),
    Package("wandb", ("wandb",)),
    Package("torchvision", ("torchvision",), gpu_only=True),
    Package("ninja", ("ninja",), gpu_only=True),  # nerfacc compiles its kernels with it
    Package("controlnet_aux", ("controlnet_aux",), gpu_only=True),
    Package(
        "tinycudann",
        ("tinycudann",),
        source="git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch",
        gpu_only=True,
        built=True,
    ),
    Package(
        "nvdiffrast",
        ("nvdiffrast",),
        source="git+https://github.com/NVlabs/nvdiffrast.git",
        gpu_only=True,
        built=True,
    ),
    Package(
        "envlight", ("envlight",), source="git+https://github.com/ashawkey/envlight.git", gpu_only=True, built=True
    ),
)
# The newest PyTorch whose extensions are C++17. From 2.12 on they are C++20, whose headers declare a global `lerp`, as
# nerfacc 0.5.3 does for itself: its kernels, which it compiles at its first call, do not compile there.
NEWEST_FOR_NERFACC = (2, 11)
TORCH_FOR_NERFACC = "torch==2.11.0"
# tiny-cuda-nn's setup imports pkg_resources, which setuptools 81 took away; all of them are looked for by a build
# without isolation, which is the one that sees PyTorch
TO_BUILD = ("setuptools<81", "wheel")
COMPILED = """nerfacc, tiny-cuda-nn and nvdiffrast are compiled: nvcc, of the CUDA that PyTorch is built for, and g++
are needed{}.
From PyTorch 2.12 on extensions are C++20, with which nerfacc 0.5.3 does not compile; from 2.13 on tiny-cuda-nn needs
-std=c++20 for its bindings.cpp and -std=c++17 for its .cu files."""


def installed_version(package: Package) -> str | None:
    """The installed version, "?" where a package without metadata is there, None where there is none."""
    for name in package.names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "?" if importlib.util.find_spec(package.module) else None


def release(version: str) -> tuple[int, ...]:
    """The numbers a version begins with: "2.13.0+cpu" is (2, 13, 0)."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(n) for n in numbers[0].split(".")) if numbers else ()


def verdict(package: Package, version: str | None) -> str:
    """ok, missing, too old or too new."""
    if version is None:
        return "missing"
    bound, have = release(package.needed.lstrip("<>=")), release(version)
    if not have or not bound:
        return "ok"
    if package.needed.startswith("<"):
        return "ok" if have < bound else "too new"
    return "ok" if have >= bound else "too old"


def cuda_of_torch() -> str | None:
    """The CUDA version that the installed PyTorch is built for, from the text of its version file."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return None
    try:
        with open(os.path.join(os.path.dirname(spec.origin), "version.py"), encoding="utf-8") as file:
            built = re.search(r"^cuda\b.*=\s*['\"]([\d.]+)['\"]", file.read(), re.M)
    except OSError:
        return None
    return built[1] if built else None


def gpus() -> list[str]:
    """Names of the GPUs which the driver shows and CUDA_VISIBLE_DEVICES leaves."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return []
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        result = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return result.stdout.decode(errors="replace").split("\n")[:-1] if result.returncode == 0 else []


def compiled_nerfacc() -> bool:
    """Whether nerfacc was installed with its kernels, so that it compiles none."""
    spec = importlib.util.find_spec("nerfacc")
    folder = os.path.dirname(spec.origin) if spec is not None and spec.origin else ""
    return bool(folder) and any(re.match(r"csrc\..*(so|pyd)$", name) for name in os.listdir(folder))


def in_order(python: str, lacking: list[Package]) -> list[str]:
    """The commands that install these packages for a GPU, in an order that works."""
    first = [TORCH_FOR_NERFACC] if any(p.module == "torch" for p in lacking) else []
    then = [p.install for p in lacking if p.module != "torch" and not p.built]
    built = [p.install for p in lacking if p.built]
    if first:  # the one that goes with it
        first += [name for name in then if name == "torchvision"]
        then = [name for name in then if name not in first]
    steps = [(first, ""), (then, "")] + ([([*TO_BUILD], ""), (built, "--no-build-isolation ")] if built else [])
    return [f"{python} -m pip install {option}{' '.join(map(shlex.quote, names))}" for names, option in steps if names]


def device() -> tuple[bool, str]:
    """Whether threestudio would run on a GPU, and the sentence that says why."""
    names, built, torch = gpus(), cuda_of_torch(), installed_version(PACKAGES[0])
    if not names:
        return False, "CPU (no GPU is seen)"
    if torch is not None and built is None:
        return False, f"CPU (a GPU is seen, {names[0]}, but PyTorch {torch} is built without CUDA)"
    return True, f"GPU ({names[0]}{f'; PyTorch is built for CUDA {built}' if built else ''})"


def main(argv: list[str]) -> int:
    """Prints the report on the threestudio folder argv[0]; returns the exit status."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  (paths of any encoding)
    folder, python = shlex.quote(os.path.abspath(argv[0])), shlex.quote(sys.executable)
    on_gpu, where = device()
    lacking = []
    print(f"device       {where}")
    too_old = sys.version_info < OLDEST_PYTHON
    oldest = "{}.{}".format(*OLDEST_PYTHON)
    print(f"python       {sys.version.split()[0]}, {sys.executable}" + (f": too old, >={oldest} is needed" * too_old))
    print()
    for package in PACKAGES:
        version = installed_version(package)
        state = verdict(package, version)
        if package.gpu_only and not on_gpu:
            state = "not needed on a CPU"
        elif package.module == "torch" and on_gpu and state == "ok" and release(version or "")[:2] > NEWEST_FOR_NERFACC:
            state = "ok" if compiled_nerfacc() else "too new for nerfacc"
        command = ""
        if state not in ("ok", "not needed on a CPU"):
            lacking.append(package)
            install = TORCH_FOR_NERFACC if package.module == "torch" and on_gpu else package.install
            command = f"   pip install {shlex.quote(install)}"
        row = f"{package.names[0]:<24}{version or '-':<16}{package.needed or 'any':<10}{state}{command}"
        print(row)
    print()
    if too_old:
        print(f"To do: make an environment of Python {oldest} or newer, and check again with PYTHON=its python.")
        return 1
    if lacking:
        if on_gpu:
            print(f"{len(lacking)} of {len(PACKAGES)} packages to install, in this order:")
            for line in in_order(python, lacking):
                print(f"  {line}")
            compilers = [name for name in ("nvcc", "g++") if shutil.which(name) is None]
            print(COMPILED.format(f"; missing here: {' and '.join(compilers)}" if compilers else ", and are here"))
            print(f"Versions of the other packages that work together:\n  {ON_CPU}\n  {OLD_SET}")
        else:
            print(f"{len(lacking)} of {len(PACKAGES)} packages to install, with", end=" ")
            print(f"{python} -m pip install -r {shlex.quote(ON_CPU)}")
    else:
        print("All packages are there.")
    print("To run:")
    if on_gpu:
        print(f"  cd {folder} && {python} launch.py --config custom/threestudio-pullback/configs/pullback-nerf.yaml \\")
        print('      --train --gpu 0 system.prompt_processor.prompt="a DSLR photo of a corgi"')
    else:
        print(f"  cd {shlex.quote(ROOT)} && {python} launch.py --threestudio {folder} \\")
        print('      --config configs/pullback-nerf-tiny.yaml --train system.prompt_processor.prompt="a red cube"')
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
