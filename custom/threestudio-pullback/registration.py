"""Enters the adapters into threestudio's registry; where that fails, placeholders that say why and what to do.

threestudio prints the error of an extension's import and goes on. The first of the extension's names in a config then
ends the run with a bare KeyError. A placeholder under each name gives the reason instead, and a config without these
names runs as before. The file needs the standard library and Python 3.8 only, since it reports too old a Python.
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
    """This machine lacks something; the arguments say what it is, and what to do."""


def names():
    """The names that the adapters register; read from their source, since importing them may be what fails."""
    listed = []
    for file in sorted(
        glob.glob(os.path.join(glob.escape(FOLDER), "pullback", "adapters", "**", "*.py"), recursive=True)
    ):
        with open(file, encoding="utf-8") as source:
            listed += re.findall(r"^(?:@register|register_flat)\(\s*[\"']([^\"']+)[\"']", source.read(), re.M)
    return listed or ["pullback-system", "pullback-guidance"]  # the folder may be missing from a clone


def enter():
    """Registers the adapters with threestudio; a second call does nothing, or tries again after a failure.

    Raises:
        ImportError: an adapter cannot be imported or registered; then none is, and each free name has a placeholder
            with the same message.
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
    match = re.match(r"(\d+)\.(\d+)", torch)
    if match and tuple(int(n) for n in match.groups()) < OLDEST_TORCH:
        oldest = "{}.{}".format(*OLDEST_TORCH)
        raise Unfit(
            f"it needs PyTorch {oldest} or newer, and this is {torch}",
            pip("--upgrade", f"torch>={oldest}") + "   (then install tinycudann again, which is compiled against it)",
        )


def check_names(registry):
    """Raises Unfit where another extension has registered one of our names."""
    for name in names():
        holder = registry.get(name)
        if holder is None or holder.__module__.partition(".")[0] == "pullback":
            continue
        file = getattr(sys.modules.get(holder.__module__), "__file__", None) or "an unknown file"
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
    """The message for an error that kept the adapters from loading: what it is, and what to do."""
    lines = str(error).strip().splitlines() or [""]
    what = f"{type(error).__name__}: {lines[0]}"
    remedy = "see the traceback above; it is a fault of the extension, please report it"
    package = (getattr(error, "name", None) or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if isinstance(error, Unfit):
        what, remedy = error.args
    elif package == "threestudio":
        home = os.path.dirname(os.path.dirname(os.path.abspath(str(sys.modules["threestudio"].__file__))))
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
    """The shell command that installs with pip into the Python of this process."""
    return " ".join(shlex.quote(word) for word in (sys.executable, "-m", "pip", "install", *arguments))


def placeholder(message):
    """A class that raises ImportError with the message wherever threestudio uses it."""

    def refuse(*args, **kwargs):
        raise ImportError(message)

    body = {"__new__": refuse, "create_from": staticmethod(refuse), "pullback_placeholder": True}
    cls = type("Unavailable", (), body)
    cls.Config = cls  # type: ignore[attr-defined]
    return cls
