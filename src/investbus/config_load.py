"""One `Settings` out of file, environment and flags, and for each value the place that it came from.

Every source is first a plain tree with places, and only the merged tree is validated: so a mistake is reported where it was made,
and all of them at once. Environment variables and `--set` go one by one through pydantic-settings, which knows how a text becomes a
list or a section.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from investbus.config import ENV_PREFIX, RouteOverride, Settings
from investbus.config_file import Key, Layer, read
from investbus.config_rules import broken_rules, dotted, in_words, known, unknown_key, unknown_variable
from investbus.errors import ConfigError

CONFIG_VARIABLE = "INVESTBUS_CONFIG"
DEFAULT_FILE = Path("investbus.yaml")


class Loaded(msgspec.Struct, frozen=True):
    """The configuration in effect. `origins` has a place for each value: `config/kafka.yaml:12`, a variable, `--set`, `default`.

    `places` has one for all that was said, sections and items of lists too.
    """

    settings: Settings
    origins: dict[str, str]
    places: dict[str, str] = {}


class _Mistakes(msgspec.Struct):
    """Lines for the user, and which keys were probably meant by unknown ones: those are not also reported as missing."""

    lines: list[str] = []
    meant: set[Key] = set()

    def unknown(self, place: str, said: tuple[str, Key | None]) -> None:
        what, meant = said
        self.lines.append(f"{place}: {what}")
        if meant:
            self.meant.update(meant[:length] for length in range(1, len(meant) + 1))


def settings_of(tree: Mapping[str, Any], place: str) -> Settings:
    """A tree that was made in code, at `place`, by the rules and in the words of a file. Raises ConfigError."""
    return _checked([Layer({**tree}, {(): place})], _Mistakes())[0]


def load(path: Path | None, sets: Sequence[str], env: Mapping[str, str]) -> Loaded:
    """Read everything. Raises ConfigError with a line for each mistake: place, key, what to do."""
    mistakes = _Mistakes()
    settings, places = _checked((_file(path, env), _environment(env, mistakes), _flags(sets, mistakes)), mistakes)
    origins = {dotted(key): places.get(key, "default") for key in _values(settings)}
    return Loaded(settings, origins, {dotted(key): place for key, place in places.items() if key})


def _checked(layers: Iterable[Layer], mistakes: _Mistakes) -> tuple[Settings, dict[Key, str]]:
    """What the layers say together, of which a later one wins, and where each key stands."""
    tree: dict[str, Any] = {}
    places: dict[Key, str] = {}
    for layer in layers:
        unknown_keys: list[Key] = []
        _merge(tree, known(layer.tree, Settings, unknown_keys))
        for key in unknown_keys:
            _report(key, _at(key, layer.places), mistakes)
        _cover(places, layer.places)
    faults = list(broken_rules(tree))
    settings = None
    try:
        settings = Settings(**tree)
    except ValidationError as error:
        faults = [*map(in_words, error.errors()), *faults]
    for key, what in faults:
        if key in places or not {key, (*key[:-1], f"{key[-1]}_file")} & mistakes.meant:
            mistakes.lines.append(f"{_at(key, places)}{dotted(key)}: {what}")
    if mistakes.lines or settings is None:
        raise ConfigError(list(dict.fromkeys(mistakes.lines)))
    return settings, places


def _report(key: Key, at: str, mistakes: _Mistakes) -> None:
    if at.startswith(ENV_PREFIX):
        mistakes.unknown(at.removesuffix(": "), unknown_variable(at.removesuffix(": ")))
    else:
        mistakes.unknown(f"{at}{dotted(key)}", unknown_key(key))


def _file(path: Path | None, env: Mapping[str, str]) -> Layer:
    if path is not None:
        return read(path, "-c")
    if named := env.get(CONFIG_VARIABLE):
        return read(Path(named), CONFIG_VARIABLE)
    return read(DEFAULT_FILE, "the default") if DEFAULT_FILE.exists() else Layer()


def _environment(env: Mapping[str, str], mistakes: _Mistakes) -> Layer:
    layer = Layer()
    for name in sorted(env, key=len):  # a section as a whole comes before its single keys, which then win
        if not name.upper().startswith(ENV_PREFIX) or name == CONFIG_VARIABLE:
            continue
        tree = _from_text(name.lower(), env[name], name, mistakes)
        if tree is None:
            mistakes.unknown(name, unknown_variable(name))
        else:
            _merge(layer.tree, tree)
            _cover(layer.places, dict.fromkeys(_leaves(tree), name))
    return layer


def _flags(sets: Sequence[str], mistakes: _Mistakes) -> Layer:
    layer = Layer()
    for text in sets:
        name, equals, value = text.partition("=")
        key = _split(name)
        if not equals:
            mistakes.lines.append(f"--set {name}: write it as key=value, such as --set ops.port=9465")
        elif (tree := _from_text(ENV_PREFIX.lower() + "__".join(key), value, f"--set {name}", mistakes)) is None:
            mistakes.unknown(f"--set: {name}", unknown_key(key))
        else:
            _merge(layer.tree, tree)
            _cover(layer.places, dict.fromkeys(_leaves(tree), "--set"))
    return layer


def _split(name: str) -> Key:
    """`routes.portfolios.status-update.timeout` has three parts: the name of a route has a dot of its own."""
    first, *rest = name.split(".")
    if first == "routes":
        ends = next((at for at, part in enumerate(rest) if at and part in RouteOverride.model_fields), len(rest))
        rest = [".".join(rest[:ends]), *rest[ends:]] if rest else rest
    return (first, *rest)


def _from_text(name: str, text: str, place: str, mistakes: _Mistakes) -> dict[str, Any] | None:
    """The tree that one variable stands for; None if there is no such variable."""
    source = EnvSettingsSource(Settings)
    source.env_vars = {name: text}
    try:
        return source() or None
    except SettingsError:
        mistakes.lines.append(f'{place}: must be a section as JSON, such as {{"key": "value"}}')
        return {}


def _at(key: Key, places: Mapping[Key, str]) -> str:
    """The place of `key`, or of the nearest section around it, or the file."""
    around = (key[:length] for length in range(len(key), -1, -1))
    return next((f"{places[one]}: " for one in around if one in places), "")


def _merge(tree: dict[str, Any], over: Mapping[str, Any]) -> None:
    for name, value in over.items():
        if isinstance(value, dict) and isinstance(below := tree.get(name), dict):
            _merge(below, value)
        else:
            tree[name] = value


def _cover(places: dict[Key, str], over: Mapping[Key, str]) -> None:
    """Take over `over`, and forget what lay below its keys: a list that was replaced has no old items."""
    for key in [one for one in places if any(one[:length] in over for length in range(1, len(one)))]:
        del places[key]
    places.update(over)


def _leaves(tree: Mapping[str, Any], at: Key = ()) -> Iterator[Key]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*at, name))
        else:
            yield (*at, name)


def _values(model: BaseModel, at: Key = ()) -> Iterator[Key]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _values(value, (*at, name))
        elif isinstance(value, dict):
            for one, each in value.items():
                yield from _values(each, (*at, name, one))
        else:
            yield (*at, name)
