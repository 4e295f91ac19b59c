"""A configuration file as a tree that remembers on which line each key stands.

YAML's own reader keeps the last of two equal keys in silence and forgets lines, so the tree is walked once as nodes before it
becomes values.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from investbus.errors import ConfigError

Key = tuple[str, ...]  # the way to a value: ("kafka", "security", "protocol")

STRING = "tag:yaml.org,2002:str"
MERGE = "tag:yaml.org,2002:merge"
NULL = "tag:yaml.org,2002:null"


class Layer(msgspec.Struct):
    """What one source says, and where it says each thing: `config/kafka.yaml:12`, `INVESTBUS_KAFKA__TOPIC` or `--set`."""

    tree: dict[str, Any] = {}
    places: dict[Key, str] = {}


def read(path: Path, named_by: str) -> Layer:
    """The file at `path`. Raises ConfigError with a line for all that keeps it from being a tree of keys."""
    try:
        return _parsed(path, path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is no text in UTF-8"]) from None
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file, {named_by} names it"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None


def _parsed(path: Path, text: str) -> Layer:
    loader: Any = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        places: dict[Key, str] = {(): str(path)}
        mistakes = list(_root(path, node, places))
        if mistakes:
            raise ConfigError(mistakes)
        return Layer((node and loader.construct_document(node)) or {}, places)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{mark.line + 1}:{mark.column + 1}" if mark else "1"
        what = " ".join(f"{error.problem or error.context}".split())
        raise ConfigError([f"{path}:{at}: is no YAML: {what}"]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([f"{path}:{line}: is no YAML: a control character stands there"]) from None
    finally:
        if loader is not None:
            loader.dispose()


def _root(path: Path, node: yaml.Node | None, places: dict[Key, str]) -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        yield from _walk(path, node, (), places, ())
    elif node is not None and node.tag != NULL:
        yield f"{path}:{node.start_mark.line + 1}: sections are needed here, such as kafka: and store:"


def _walk(path: Path, node: yaml.Node, key: Key, places: dict[Key, str], outer: tuple[yaml.Node, ...]) -> Iterator[str]:
    """Note the line of every key below `node`; yields what is wrong with keys."""
    if any(node is one for one in outer):
        yield f"{places[key]}: {'.'.join(key)}: refers to a section that it is itself part of"
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            inner = (*key, str(index))
            places[inner] = f"{path}:{item.start_mark.line + 1}"
            yield from _walk(path, item, inner, places, (*outer, node))
    elif isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            place = f"{path}:{name.start_mark.line + 1}"
            if name.tag == MERGE:
                continue
            if name.tag != STRING:
                yield f"{place}: {name.value if isinstance(name, yaml.ScalarNode) else '?'}: is no text; put it in quotes"
                continue
            inner = (*key, name.value)
            if inner in places:
                yield f"{place}: {'.'.join(inner)}: stands twice, first at {places[inner]}; remove one of them"
                continue
            places[inner] = place
            yield from _walk(path, value, inner, places, (*outer, node))
