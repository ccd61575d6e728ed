"""Enters the adapters into threestudio's registry; where that fails, placeholders that say why and what to do.

threestudio prints what an extension's import raises, goes on, and ends at the first of the extension's names in a bare
KeyError. A placeholder under each name ends the run with the reason instead, and a config that uses none of the names
runs as before. Standard library and Python 3.8 only: it has to tell of too old a Python or PyTorch.
"""

import glob
import importlib
import os
import re
import shlex
import sys

FOLDER = os.path.dirname(os.path.realpath(__file__))
OLDEST_PYTHON = (3, 10)
OLDEST_TORCH = (2, 2)
TESTED = "28d9d80"
PIP_NAMES = {"PIL": "pillow", "cv2": "opencv-python", "skimage": "scikit-image", "yaml": "pyyaml"}
RESTORE = f"git -C {shlex.quote(FOLDER)} status   (lists what is missing), or clone it again"


class Unfit(Exception):
    """Something this machine lacks: what it is, and what to do."""


def names():
    """The names which the adapters register, read from their source, since importing it may be what fails."""
    found = []
    for file in sorted(
        glob.glob(os.path.join(glob.escape(FOLDER), "pullback", "adapters", "**", "*.py"), recursive=True)
    ):
        with open(file, encoding="utf-8") as source:
            found += re.findall(r"^(?:@register|register_flat)\(\s*[\"']([^\"']+)[\"']", source.read(), re.M)
    return found or ["pullback-system", "pullback-guidance"]  # a clone without that folder has to be told of, too


def enter():
    """Registers the adapters with threestudio; a second time does nothing, or tries again what failed.

    Raises:
        ImportError: they cannot be; no adapter is registered, each free name holds a placeholder with that message.
    """
    registry = importlib.import_module("threestudio").__modules__
    for name in [name for name, cls in registry.items() if hasattr(cls, "pullback_placeholder")]:
        del registry[name]
    registered, imported = set(registry), set(sys.modules)
    try:
        check_versions()
        check_names(registry)
        find_package()
        importlib.import_module("pullback.adapters._framework").load_adapters()
        absent = [name for name in names() if name not in registry]
        if absent:
            raise Unfit(
                f"its adapters were imported before threestudio was, and {absent[0]} went to the bundled host",
                "import threestudio before pullback.adapters",
            )
    except Exception as error:
        for name in set(registry) - registered:
            del registry[name]
        for module in set(sys.modules) - imported:
            if module.partition(".")[0] == "pullback":
                del sys.modules[module]
        message = explain(error)
        for name in names():
            registry.setdefault(name, placeholder(message))
        raise ImportError(message) from error


def check_versions():
    """Raises Unfit for a Python or PyTorch that is too old."""
    if sys.version_info < OLDEST_PYTHON:
        python, oldest = sys.version.split()[0], "{}.{}".format(*OLDEST_PYTHON)
        raise Unfit(
            f"it needs Python {oldest} or newer, and {sys.executable} is {python}",
            f"run threestudio in an environment of Python {oldest} or newer",
        )
    torch = importlib.import_module("torch").__version__
    found = re.match(r"(\d+)\.(\d+)", torch)
    if found and tuple(int(n) for n in found.groups()) < OLDEST_TORCH:
        oldest = "{}.{}".format(*OLDEST_TORCH)
        raise Unfit(
            f"it needs PyTorch {oldest} or newer, and this is {torch}",
            pip("--upgrade", f"torch>={oldest}") + "   (then install tinycudann again, which is compiled against it)",
        )


def check_names(registry):
    """Raises Unfit for a name of ours that another extension holds."""
    for name in names():
        holder = registry.get(name)
        if holder is None or holder.__module__.partition(".")[0] == "pullback":
            continue
        file = getattr(sys.modules.get(holder.__module__), "__file__", None) or "a file that is not known"
        raise Unfit(
            f"the name '{name}' is already registered, by {holder.__qualname__} of the extension "
            f"'{holder.__module__.partition('.')[0]}', in {file}",
            "change the name there, or add _disabled to that extension's name in custom/, and threestudio skips it",
        )


def find_package():
    """Lets `import pullback` find this folder's, also where another is installed; Unfit if another is imported."""
    if not os.path.isfile(os.path.join(FOLDER, "pullback", "__init__.py")):
        raise Unfit(f"{FOLDER} is incomplete: it has no pullback/__init__.py", RESTORE)
    loaded = sys.modules.get("pullback")
    if loaded is None:
        sys.path[:] = [FOLDER, *(path for path in sys.path if path != FOLDER)]
        return
    source = os.path.dirname(os.path.dirname(os.path.realpath(getattr(loaded, "__file__", None) or "")))
    if source != FOLDER:
        raise Unfit(
            f"the extension is {FOLDER}, but this process has imported pullback from {source}",
            "keep one of the two: link the clone that you start from, and no other, into threestudio's custom/",
        )


def explain(error):
    """The message for whatever kept the adapters from being loaded: what, and what to do."""
    lines = str(error).strip().splitlines() or [""]
    what = f"{type(error).__name__}: {lines[0]}"
    remedy = "see the traceback above; it is a fault of the extension, please report it"
    package = (getattr(error, "name", None) or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if isinstance(error, Unfit):
        what, remedy = error.args
    elif package == "threestudio":
        home = os.path.dirname(os.path.dirname(os.path.abspath(sys.modules["threestudio"].__file__)))
        what += f" (the threestudio in {home} is another than the tested one)"
        remedy = f"git -C {shlex.quote(home)} checkout {TESTED}"
    elif package == "pullback":
        what += f" ({FOLDER} is incomplete)"
        remedy = RESTORE
    elif package and package not in getattr(sys, "stdlib_module_names", ()):
        package = PIP_NAMES.get(package, package)
        if isinstance(error, ModuleNotFoundError):
            what, remedy = f"the package '{package}' is missing", pip(package)
        else:
            what, remedy = f"{what} (the package '{package}' does not fit)", pip("--upgrade", package)
    return (
        f"\n\n  threestudio-pullback was not loaded: {what}.\n  What to do: {remedy}\n"
        f"  Until then these names are not available: {', '.join(names())}.\n"
    )


def pip(*arguments):
    """The pip command of the Python that runs."""
    return " ".join(shlex.quote(word) for word in (sys.executable, "-m", "pip", "install", *arguments))


def placeholder(message):
    """A class whose every use by threestudio raises ImportError with the message."""

    def refuse(*args, **kwargs):
        raise ImportError(message)

    body = {"__new__": refuse, "create_from": staticmethod(refuse), "pullback_placeholder": True}
    cls = type("Unavailable", (), body)
    cls.Config = cls
    return cls
