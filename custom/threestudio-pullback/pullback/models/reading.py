"""Reads the parts of a model folder in diffusers' format; a part that cannot be read is one sentence."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from ..errors import UserError, is_out_of_memory, unfit_package

INSTALL = "pip install diffusers transformers safetensors accelerate"
AGAIN = "copy or download the model again"
FILES = (".json", ".txt", ".model", ".safetensors")
STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
"""Each library's name of a weight file."""
HALVES = ("fp16", "bf16")
"""Variants of weights in half precision, of folders that may have no others."""
TEXT_COMPONENTS = tuple(f"{part}{number}" for part in ("tokenizer", "text_encoder") for number in ("", "_2", "_3"))


class ModelError(UserError):
    """A model that cannot be loaded or used. A caller with a config key puts it in front, see `config_key`.

    Args:
        message: The sentence, which begins with the folder or file, or continues after `argument`.
        argument: The wrong argument of the Python call, if it is one.
    """

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__(f"{argument} {message}" if argument else message)
        self.message, self.argument = message, argument


@contextmanager
def config_key(path: str) -> Iterator[None]:
    """Puts a config key, or a command's option, in front of a ModelError's message.

    Args:
        path: Of the key that names the model. For another argument of the call, its key in the same block is put.

    Raises:
        UserError: In place of the ModelError.
    """
    try:
        yield
    except ModelError as error:
        block, _, key = path.rpartition(".")
        if error.argument is None:
            raise UserError(f"`{path}`: {error.message}") from error
        key = key if error.argument == "name_or_path" else error.argument
        raise UserError(f"`{block}.{key}` {error.message}" if block else f"`{key}` {error.message}") from error


class Change(Protocol):
    """A file that changes the networks of a folder as they are read, such as a LoRA's."""

    def fingerprint(self) -> str:
        """Changes with what the file does."""
        ...

    def check(self, folder: ModelFolder, parts: Mapping[str, Any]) -> None:
        """Raises ModelError where it cannot change a model of these parts."""
        ...

    def apply(self, folder: ModelFolder, part: str, network: Any) -> None:
        """Changes the network of a part in place, if the file concerns it."""
        ...


class Kept:
    """How a model's networks are kept: whole, on their device. `memory.Thrift` is another way."""

    def place(self, network: Any, device: torch.device) -> Any:
        """The network that predicts, ready for calls on a device."""
        return network.to(device)

    def text_device(self, device: torch.device) -> torch.device:
        """Where the text encoders of such a model run."""
        return device


@dataclass(frozen=True)
class ModelFolder:
    """The folder of a model.

    Attributes:
        path: The folder.
        variant: Of the weight files, such as "fp16"; None for the plain ones, or those in half
            precision where there are no plain ones.
        other: Folders of parts, by name, that take the place of the folder's own.
        changes: What is done to each network, in this order.
        embeddings: Files of textual inversion, whose words the text encoders learn.
        kept: How the networks are kept once they are read.
    """

    path: Path
    variant: str | None = None
    other: Mapping[str, Path] = field(default_factory=dict[str, Path])
    changes: tuple[Change, ...] = ()
    embeddings: tuple[Path, ...] = ()
    kept: Kept = field(default_factory=Kept)

    @property
    def source(self) -> Path:
        """What a user named: the folder itself."""
        return self.path

    @property
    def has_own_text(self) -> bool:
        """Whether the text encoders differ from those that other readers of `source` find."""
        return bool(self.changes or self.embeddings)

    def place(self, part: str) -> Path:
        """The folder of a part."""
        return self.other.get(part, self.path / part)

    def origin(self, part: str) -> str:
        """Where the weights of a part come from, for messages."""
        return str(self.place(part))

    def check_files(self) -> None:
        """Raises ModelError where what has the name of a file is a folder, or a link that leads nowhere."""
        for path in sorted([*self.path.glob("*"), *self.path.glob("*/*")]):
            if path.suffix in FILES and not path.is_file():
                raise ModelError(f"{path} is no file that can be read; {AGAIN}")

    def json(self, file: str, otherwise: str = "") -> dict[str, Any]:
        """A JSON object of the folder.

        Args:
            file: Its path in the folder.
            otherwise: The fault to report where the file is missing.

        Raises:
            ModelError: The file is missing, unreadable, or no object.
        """
        part, _, name = file.partition("/")
        path = self.place(part) / name if name else self.path / file
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(
                f"{otherwise or f'{path.parent} is incomplete'} (it has no {path.name}); give a folder written by "
                "diffusers' save_pretrained"
            ) from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} cannot be read ({first_sentence(error)}); {AGAIN}") from error
        if not isinstance(value, dict):
            raise ModelError(f"{path} is no JSON object; {AGAIN}")
        return value

    def network(self, part: str, kind: str, dtype: torch.dtype | None = None) -> Any:
        """One frozen network in evaluation mode, on the CPU, from safetensors.

        Args:
            part: Its folder.
            kind: Its library and class, such as "diffusers.AutoencoderKL", and earlier names of the class, joined by
                "|"; any library but transformers must have diffusers' `from_pretrained`.
            dtype: Of its weights; by default float32, or the file's with transformers.

        Raises:
            ModelError: The folder's config has another class, or files or weights are missing or do not fit.
        """
        place, config = self.place(part), self.json(f"{part}/config.json")
        kind, *others = kind.split("|")
        name = kind.rpartition(".")[-1]
        if config.get("_class_name", name) not in (name, *others):
            raise ModelError(f"{place} holds a {config['_class_name']}, not the {name} of a model like this; {AGAIN}")
        if isinstance(how := config.get("quantization_config"), dict):
            kind = how.get("quant_method", "some method")
            raise ModelError(f"{place} has weights quantised with {kind}, which are not read; use the plain ones")
        network, missing = self.read(part, kind, dtype)
        if missing:
            raise ModelError(f"{self.origin(part)} lacks {len(missing)} weights (the first is {missing[0]}); {AGAIN}")
        for change in self.changes:
            change.apply(self, part, network)
        return network.eval().requires_grad_(False)

    def read(self, part: str, kind: str, dtype: torch.dtype | None) -> tuple[Any, list[str]]:
        """A network, as `network` has it, and the names of weights that it lacks."""
        root, place = kind.partition(".")[0], self.place(part)
        options: dict[str, Any] = {"variant": self._variant(place, STEMS.get(root, STEMS["diffusers"]))}
        if root != "transformers":
            options |= {"use_safetensors": True, **({} if dtype is None else dtype_option(dtype))}
        with self.reading(part):
            network, info = class_of(kind).from_pretrained(
                str(place), local_files_only=True, output_loading_info=True, **options
            )
        # position_ids were saved by old versions and are computed by new ones
        return network, sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))

    def weights(self, part: str) -> dict[str, torch.Tensor]:
        """All tensors of a part of diffusers', by name, from one safetensors file or several.

        Raises:
            ModelError: Files are missing or cannot be read.
        """
        place, stem = self.place(part), STEMS["diffusers"]
        variant = self._variant(place, stem)
        mark = f".{variant}" if variant else ""
        with self.reading(part):
            from safetensors.torch import load_file

            whole = place / f"{stem}{mark}.safetensors"
            index = f"{part}/{stem}.safetensors.index{mark}.json"
            names = [whole.name] if whole.is_file() else sorted({*self.json(index)["weight_map"].values()})
            return {name: tensor for file in names for name, tensor in load_file(place / file).items()}

    def shapes(self, part: str) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor of a part, by its name."""
        files = sorted(self.place(part).glob("*.safetensors"))
        return {name: shape for file in files for name, shape in shapes(file).items()}

    def has_weights(self, part: str) -> bool:
        """Whether there are weights that can be read, or the part is none that has any."""
        place = self.place(part)
        return not (place / "config.json").is_file() or any(self._variants(place, stem) for stem in STEMS.values())

    def _variants(self, place: Path, stem: str) -> list[str | None]:
        """The variants of a part's weights that are there."""
        found: list[str | None] = []
        for variant in [self.variant] if self.variant else [None, *HALVES]:
            mark = f".{variant}" if variant else ""
            names = f"{stem}{mark}.safetensors", f"{stem}.safetensors.index{mark}.json"
            if any((place / name).is_file() for name in names):
                found.append(variant)
        return found

    def _variant(self, place: Path, stem: str) -> str | None:
        variants = self._variants(place, stem)
        if variants:
            return variants[0]
        mark = f".{self.variant}" if self.variant else ""
        pickled = any(place.glob("*.bin"))
        raise ModelError(
            f"{place} has no {stem}{mark}.safetensors"
            + (", only pickled .bin weights, not loaded because they can run code" if pickled else "")
            + "; save the model again with save_pretrained(..., safe_serialization=True)"
        )

    @contextmanager
    def reading(self, part: str) -> Iterator[None]:
        """A context to read a part in, without warnings and progress bars; a library's error becomes a ModelError."""
        try:
            with quiet():
                yield
        except UserError:
            raise
        except ImportError as error:
            raise missing_package(error) from error
        except Exception as error:  # diffusers, transformers and safetensors each raise their own
            if is_out_of_memory(error):
                raise
            if sentence := unfit_package(error):
                raise UserError(sentence) from error
            reason = f"{type(error).__name__}: {first_sentence(error)}"
            raise ModelError(f"{self.origin(part)} cannot be loaded ({reason}); {AGAIN}") from error

    def fingerprint(self, components: Iterable[str]) -> str:
        """SHA-256 over names and contents of the components' configs and safetensors, as 64 hex digits.

        The process keeps the digest of a file until its size or modification time changes.
        """
        digest = hashlib.sha256()
        for component in sorted(components):
            for file in sorted(self.place(component).glob("*")):
                if file.suffix in (".json", ".txt", ".safetensors"):
                    digest.update(f"{component}/{file.name} {file_digest(file)}\n".encode())
        for change in (*(c.fingerprint() for c in self.changes), *map(file_digest, self.embeddings)):
            digest.update(f"{change}\n".encode())
        return digest.hexdigest()


def file_digest(file: Path) -> str:
    """SHA-256 of a file; the process keeps it until size or modification time change."""
    stat = file.stat()
    return _file_digest(file.resolve(), stat.st_size, stat.st_mtime_ns)


def shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a file of weights, by its name.

    Raises:
        ModelError: The file cannot be read.
    """
    try:
        from safetensors import safe_open

        with safe_open(file, framework="pt") as stream:
            return {name: tuple(stream.get_slice(name).get_shape()) for name in stream.keys()}  # noqa: SIM118
    except Exception as error:  # of the system, and of safetensors, whose class is no subclass of one of Python's
        raise ModelError(f"{file} cannot be read ({first_sentence(error)}); {AGAIN}") from error


@functools.lru_cache(maxsize=256)
def _file_digest(file: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def class_of(kind: str) -> Any:
    """The class of a name such as "diffusers.AutoencoderKL".

    Raises:
        ModelError: The installed version has none of this name.
    """
    library, _, name = kind.rpartition(".")
    module, root = importlib.import_module(library), library.partition(".")[0]
    if not hasattr(module, name):
        version = importlib.import_module(root).__version__
        raise ModelError(
            f"the model has a {name}, which {root} {version} does not have; install another version of {root}, such as "
            f"with `pip install --upgrade {root}`"
        )
    return getattr(module, name)


def dtype_option(dtype: torch.dtype) -> dict[str, torch.dtype]:
    """The keyword of diffusers' from_pretrained: `torch_dtype` until 0.41, then deprecated for `dtype`."""
    import diffusers

    major, minor = diffusers.__version__.split(".")[:2]
    return {"dtype" if (int(major), int(minor)) >= (0, 42) else "torch_dtype": dtype}


@contextmanager
def quiet() -> Iterator[None]:
    """A context without warnings and progress bars of diffusers and transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # transformers first: importing diffusers makes it warn
            from transformers.utils import logging as first

            verbosity, bars = first.get_verbosity(), first.is_progress_bar_enabled()
            first.set_verbosity(logging.CRITICAL)
            first.disable_progress_bar()
            from diffusers.utils import logging as second
        except ImportError as error:
            raise missing_package(error) from error
        loud = second.get_verbosity()
        second.set_verbosity(logging.CRITICAL)  # an error of theirs becomes a sentence of ours
        try:
            yield
        finally:
            first.set_verbosity(verbosity)
            second.set_verbosity(loud)
            if bars:
                first.enable_progress_bar()


def missing_package(error: ImportError) -> UserError:
    """The error for a package of the `models` extra that is not installed, or was built for another PyTorch."""
    if sentence := unfit_package(error):
        return UserError(sentence)
    return UserError(f"diffusion models need the package {error.name or error}, which is not installed; run {INSTALL}")


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error's message, on one line."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.split(". ")[0][:200].rstrip(".")
