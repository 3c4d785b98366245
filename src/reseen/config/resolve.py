"""Recipes, files and settings to one :class:`Config`, and back to YAML.

A recipe is a YAML file in ``recipes/`` that holds only what differs from the defaults.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from reseen.config.sections import LITE, Config
from reseen.errors import ReseenError
from reseen.files import to_json

BY_NUMBER = ("cluster.k1", "train.iterations")  # "auto": the number of images decides, when the run begins
DEEPEST = 20  # levels of a YAML file; a configuration has two
RECIPES = Path(__file__).parent.parent / "recipes"
# Keys that came later: at their defaults no part of a fingerprint.
ADDED = ("weights", "data.mean", "data.std")

SECTIONS: dict[str, Any] = {
    f.name: f.default_factory for f in dataclasses.fields(Config) if isinstance(f.default_factory, type)
}


def resolve(
    recipe: str | Path | None = None,
    file: str | Path | Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
    weights: str | None = None,
    *,
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Defaults, then the recipe (``base`` over it), then a YAML file of differences (or what it holds), then
    ``key=value`` settings.

    ``weights`` (a path as it is, whatever characters it has) comes last; ``lite`` brings its backbone where none is
    given.

    ``recipe`` is a name of :func:`recipe_names` or the path of a YAML file; without it the file's line
    ``recipe:`` counts, and without that ``cacl``. Values are written as in YAML and typed by the field they
    go to, so ``off`` is a word where a word is expected. Raises :class:`ReseenError` for an unknown key or
    recipe (the nearest name is suggested), for a value of the wrong type and for one out of range.
    """
    if isinstance(file, Mapping):
        file, from_file = "--config", _flatten(file, "--config")
    else:
        from_file = _read(Path(file)) if file is not None else {}
    named = from_file.pop("recipe", None)
    if recipe is not None and named is not None and str(recipe) != named:
        raise ReseenError(f"{file} says recipe: {named}; drop that line, or --recipe {recipe}")
    name = str(recipe if recipe is not None else named if named is not None else "cacl")
    from_recipe = _read(_recipe_path(name))
    if "recipe" in from_recipe:
        raise ReseenError(f"{name} names a recipe itself: use it as --config {name}")
    values = from_recipe | dict(base or {}) | from_file
    for setting in settings:
        key, found, text = setting.partition("=")
        if not found:
            raise ReseenError(f"--set {setting}: write it as key=value, for instance cluster.eps=0.5")
        if key.strip() == "recipe":
            raise ReseenError("--set recipe=... is too late: name it with --recipe")
        values |= _flatten({key.strip(): _parse_yaml(text, f"--set {setting}")}, "--set")
    if weights is not None:
        values["weights"] = weights
    if values.get("weights") == "lite":
        values.setdefault("model.backbone", LITE)
    return _build(values | {"recipe": name})


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with reseen, sorted."""
    return tuple(sorted(path.stem for path in RECIPES.glob("*.yaml")))


def small_recipe(name: str) -> tuple[str, ...]:
    """What ``recipes/small/NAME.yaml`` sets, as ``key=value``: it goes over a recipe, not beside it."""
    values = _read(RECIPES / "small" / f"{name}.yaml")
    words = {key: f"[{','.join(v)}]" if isinstance(v, list) else v for key, v in values.items()}
    return tuple(f"{key}={word}" for key, word in words.items())


def to_yaml(config: Config) -> str:
    """The whole configuration as YAML; :func:`from_yaml` gives back an equal one."""
    return str(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))


def from_yaml(text: str) -> Config:
    """Inverse of :func:`to_yaml`. A missing key has its default, an unknown one raises ReseenError."""
    return _build(_flatten(_parse_yaml(text, "configuration"), "configuration"))


def differences(first: Config, second: Config) -> list[str]:
    """Keys (``cluster.eps``) whose values differ, in the order of the dataclasses; not the recipe's name."""
    one, two = _values(first), _values(second)
    return [key for key in one if key != "recipe" and one[key] != two[key]]


def fingerprint(config: Config) -> str:
    """SHA-256 in hexadecimal of every value but the recipe's name: equal where ``differences`` is empty.

    A key that was added later counts where it is not its default, so that what was made before is found again.
    """
    same = from_yaml(to_yaml(config))  # 0 given for 0.0 becomes 0.0
    usual = _values(Config())
    values = {
        key: value
        for key, value in _values(same).items()
        if key != "recipe" and not (key in ADDED and value == usual[key])
    }
    return hashlib.sha256(to_json(values, sort_keys=True).encode()).hexdigest()


def unknown(what: str, name: str, known: Iterable[str]) -> ReseenError:
    """The error for a name that does not exist, with the nearest one that does (or all of them)."""
    names = sorted(known)
    last = {other.rpartition(".")[2]: other for other in names}  # right word, wrong section: lr -> train.lr
    near = difflib.get_close_matches(name, names, n=1) or [
        last[word] for word in difflib.get_close_matches(name.rpartition(".")[2], last, n=1)
    ]
    if len(names) > 25:
        names = sorted({name.partition(".")[0] for name in names})
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
    return ReseenError(f"unknown {what} {name!r}; {hint}")


def _recipe_path(name: str) -> Path:
    if name in recipe_names():
        return RECIPES / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    raise unknown("recipe", name, recipe_names())


def _read(path: Path) -> dict[str, Any]:
    return _flatten(read_tree(path), str(path))


def read_tree(path: Path) -> Any:
    """What a YAML file holds, every scalar as text; keys are not looked at. Raises ReseenError if it is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ReseenError(f"cannot read the configuration {path}: {why}") from error
    return _parse_yaml(text, str(path))


class _Plain(yaml.BaseLoader):
    """Only dict, list and str, a few levels deep and nothing twice: a page of aliases may stand for gigabytes."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name): write the value again")
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {DEEPEST} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _parse_yaml(text: str, where: str) -> Any:
    """YAML with every scalar left as text: the fields give the types (``off`` may be a word)."""
    try:
        return yaml.load(text, Loader=_Plain)  # safer than SafeLoader
    except yaml.YAMLError as error:
        raise ReseenError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error


def _values(config: Config) -> dict[str, Any]:
    """Key with dots -> value, in the order of the dataclasses."""
    flat: dict[str, Any] = {}
    for name, value in dataclasses.asdict(config).items():
        flat |= {f"{name}.{key}": v for key, v in value.items()} if name in SECTIONS else {name: value}
    return flat


def _flatten(tree: Any, where: str) -> dict[str, Any]:
    """Nested sections, or keys with dots, to one level. Every key must exist."""
    if tree is None or tree == "":  # an empty file
        return {}
    if not isinstance(tree, Mapping):
        raise ReseenError(f"{where}: expected lines of the form key: value")
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if name not in SECTIONS:
            flat[str(name)] = value
        elif isinstance(value, Mapping):
            flat |= {f"{name}.{key}": item for key, item in value.items()}
        elif value:
            raise ReseenError(f"{where}: {name} is a section; write for instance {name}.KEY={value}")
    known = _values(Config())
    for key in flat:
        if key not in known:
            raise ReseenError(f"{where}: {unknown('key', key, known)}")
    return flat


def _build(values: Mapping[str, Any]) -> Config:
    """Type every value by its field (jsonargparse), then let the dataclasses check the ranges."""
    from jsonargparse import ArgumentError  # a quarter second: not for `reseen --help`

    tree: dict[str, Any] = {}
    for key, value in values.items():
        if value in ("", None):
            raise _expected(key, value)
        if value == "auto" and key in BY_NUMBER:
            value = "0"
        section, _, name = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = value
    try:
        parsed = _parser().parse_object(tree, defaults=False).as_dict()
    except ArgumentError as error:
        guilty = re.search(r'"([\w.]+)"', str(error))
        if guilty is None or guilty[1] not in values:
            raise ReseenError(f"configuration: {' '.join(str(error).split())}") from error
        raise _expected(guilty[1], values[guilty[1]]) from error
    return Config(**{name: SECTIONS[name](**v) if name in SECTIONS else v for name, v in parsed.items()})


@cache
def _parser() -> Any:
    """Types of all keys; what is not given has the default of its dataclass."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Config)
    return parser


def _expected(key: str, value: Any) -> ReseenError:
    section, _, name = key.rpartition(".")
    kind = next(f.type for f in dataclasses.fields(SECTIONS.get(section, Config)) if f.name == name)
    text = str(getattr(kind, "__name__", kind)) if isinstance(kind, type) else str(kind)
    words = re.findall(r"""['"]([^'"]+)['"]""", text)  # of a Literal
    wanted = f"one of {', '.join(words)}" if words else text.replace("tuple[float, ...]", "[0.5, 0.75]")
    return ReseenError(f"{key} is {repr(value) if value else 'empty'}: expected {wanted}")
