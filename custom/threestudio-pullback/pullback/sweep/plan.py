"""What a sweep consists of: variants of a config, prompts and seeds; their product is its units."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from ..errors import UserError
from ..output.file_names import slug


@dataclass(frozen=True)
class Variant:
    """One way to make every prompt with every seed.

    Attributes:
        label: For readers, such as "pullback levels=4".
        config: The text of a config file.
        words: Overrides key=value, as on launch.py's command line.
        imports: Modules that register parts of a user.
    """

    label: str
    config: str
    words: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()

    @functools.cached_property
    def name(self) -> str:
        """The name of its folder; another one for another content."""
        return slug(self.label, json.dumps([self.config, *sorted(self.words), "", *self.imports]))


@dataclass(frozen=True)
class Unit:
    """One run: the unit of work.

    Attributes:
        variant: The variant's name.
        prompt: What to make.
        seed: Of the sample.
    """

    variant: str
    prompt: str
    seed: int

    @functools.cached_property
    def tag(self) -> str:
        """The name of its run's folder within the variant's."""
        return f"{slug(self.prompt)}-{self.seed}"

    @functools.cached_property
    def name(self) -> str:
        """VARIANT/TAG, which no other unit has."""
        return f"{self.variant}/{self.tag}"


@dataclass(frozen=True)
class Plan:
    """All that one command asks for."""

    variants: tuple[Variant, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]

    def units(self) -> Iterator[Unit]:
        """Every prompt by every variant with the first seed, then with the second, and so on."""
        names = [variant.name for variant in self.variants]
        for seed, name, prompt in itertools.product(self.seeds, names, self.prompts):
            yield Unit(name, prompt, seed)

    def text(self) -> str:
        """The plan as a file has it."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @property
    def name(self) -> str:
        """The name of that file; another one for another plan."""
        return hashlib.sha256(self.text().encode("utf-8", "surrogatepass")).hexdigest()[:16] + ".json"

    @staticmethod
    def read(text: str) -> Plan:
        """The plan of a file's text; raises ValueError, KeyError or TypeError for another text."""
        saved = json.loads(text)
        variants = tuple(
            Variant(one["label"], one["config"], tuple(one["words"]), tuple(one["imports"]))
            for one in saved["variants"]
        )
        return Plan(variants, tuple(map(str, saved["prompts"])), tuple(map(int, saved["seeds"])))


def grid(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every choice of one value for each key, from words "key=a,b,c".

    A comma within brackets, braces or quotes divides nothing: `key=[1,2],[3,4]` has two values.

    Raises:
        UserError: A word is no key=value, or a key is given twice.
    """
    keys: dict[str, list[str]] = {}
    for word in words:
        key, equals, values = word.partition("=")
        if not equals or not key:
            raise UserError(f"cannot read {word!r}; settings are written key=value, or key=a,b,c for one run of each")
        if key in keys:
            raise UserError(f"`{key}` is given twice; write its values with commas, {key}=a,b")
        keys[key] = _values(values)
    for choice in itertools.product(*keys.values()):
        yield tuple(f"{key}={value}" for key, value in zip(keys, choice, strict=True))


def _values(text: str) -> list[str]:
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "[{(") - (letter in ")}]")
        if letter == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [text] if quote or depth else parts


def label(name: str, words: Sequence[str], changing: Sequence[str]) -> str:
    """The label of a variant: a name, and those settings in which it differs from others.

    Args:
        name: Of the config or the method.
        words: The variant's settings.
        changing: The keys that have several values.
    """
    shown = [word for word in words if word.partition("=")[0] in changing]
    return " ".join([name, *(word.partition("=")[0].rpartition(".")[2] + word[word.index("=") :] for word in shown)])


def shard(units: Sequence[Unit], text: str) -> list[Unit]:
    """Every n-th unit from the i-th on, for the text "i/n" with i from 0 to n - 1.

    Raises:
        UserError: The text is another.
    """
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UserError(f"--shard is written i/n with i from 0 to n - 1, such as 0/4, not {text!r}")
    return list(units[int(index) :: int(count)])
