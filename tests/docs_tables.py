"""The README's tables that are made from the code: transports, configuration, metrics and commands.

`python -m tests.docs_tables --write` puts them between their markers. `tests/test_docs.py` fails while the README says something
else, so a setting, a metric or a flag cannot come without its line.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from typer.main import get_command

from investbus import cli
from investbus.config import Settings
from investbus.metrics import TABLE, Look, Metrics
from investbus.plugins import BUILT_IN, CLIENTS, load_transport
from investbus.transport import SettleCounts, TransportState
from tests.transports.conformance_guarantees import GUARANTEES, QUESTIONS

README = Path(__file__).resolve().parent.parent / "README.md"
OPEN_LABELS = ("version", "python", "transport", "route", "partition")  # their values depend on who runs it
WORDS = {"string": "text", "boolean": "`true`, `false`", "object": "section"}
FORMATS = {"password": "secret", "path": "path"}
LIMITS = {"exclusiveMinimum": ">", "minimum": "≥", "maximum": "≤"}

Schema = Mapping[str, Any]


def transports() -> Iterator[str]:
    yield from _head("transport", "installed with", "delivery", "order", "replicas")
    for name in BUILT_IN["transport"]:
        promised = load_transport(name).guarantees  # type: ignore[attr-defined] # the loader says no more than "callable"
        extra = f"`investbus[{name}]`" if name in CLIENTS else "`investbus`"
        yield _row(f"`{name}`", extra, promised["delivery"], promised["order"], promised["replicas"])
    yield ""
    yield from _head("tried on each", *(re.sub(r"^\w+", r"`\g<0>`", name) for name in GUARANTEES))
    for field, question in QUESTIONS.items():
        yield _row(question, *(_answer(getattr(promised, field)) for promised in GUARANTEES.values()))


def configuration() -> Iterator[str]:
    schema = Settings.model_json_schema()
    yield from _head("key", "type", "default", "meaning")
    yield from _keys(schema, schema["$defs"], "")


def metrics() -> Iterator[str]:
    values = _label_values()
    yield from _head("metric", "type", "labels", "meaning")
    for row in TABLE:
        labels = (f"`{label}`{values.get((row.name, label), '')}" for label in row.labels)
        yield _row(f"`investbus_{row.name}`", row.kind, ", ".join(labels) or "-", row.help)


def commands() -> Iterator[str]:
    yield from _head("command", "does")
    for words, command in verbs(get_command(cli._app())):
        usage = " ".join([cli.PROGRAM, *words, *map(_parameter, command.params)])
        yield _row(f"`{usage}`", command.help.partition("\n\n")[0])


GENERATED: Mapping[str, Callable[[], Iterable[str]]] = {
    "transports": transports,
    "configuration": configuration,
    "metrics": metrics,
    "commands": commands,
}


def renewed(text: str) -> str:
    """`text` with every generated part as the code has it now. Raises ValueError for one that has no markers."""
    for name, lines in GENERATED.items():
        begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
        before, mark, rest = text.partition(begin)
        _, close, after = rest.partition(end)
        if not mark or not close:
            raise ValueError(f"{begin} and {end} are not both there")
        text = "\n".join((f"{before}{begin}", *lines(), f"{end}{after}"))
    return text


def verbs(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that name it."""
    if not hasattr(command, "commands"):
        yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from verbs(inner, (*words, name))


def _label_values() -> Mapping[tuple[str, str], str]:
    """By metric and label, the values that a new worker shows: every series stands at 0 from the start."""
    new = Metrics("memory")
    new.look = lambda: Look(TransportState(True, True), SettleCounts())
    found: dict[tuple[str, str], dict[str, None]] = {}
    for sample in (sample for family in new.registry.collect() for sample in family.samples):
        metric = sample.name.removeprefix("investbus_").removesuffix("_count")
        for label, value in sample.labels.items():
            if label not in OPEN_LABELS:
                found.setdefault((metric, label), {})[value] = None
    return {where: f" ({', '.join(values)})" for where, values in found.items()}


def _keys(section: Schema, defs: Schema, at: str) -> Iterator[str]:
    for name, said in section["properties"].items():
        key, inner = f"{at}{name}", _inner(said)
        needed = name in section.get("required", ())
        if inner is None:
            yield _row(f"`{key}`", _type(said), "needed" if needed else _default(said["default"]), said["description"])
            continue
        many = "additionalProperties" in said
        yield _row(f"**`{key}`**", "sections by name" if many else "section", "", said["description"])
        yield from _keys(defs[inner], defs, f"{key}.NAME." if many else f"{key}.")


def _inner(said: Schema) -> str | None:
    """The name of the section that a key holds, if it holds one."""
    for part in (said, said.get("additionalProperties", {}), *said.get("anyOf", ())):
        if "$ref" in part:
            return str(part["$ref"]).rpartition("/")[2]
    return None


def _type(said: Schema) -> str:
    one = next((part for part in said.get("anyOf", ()) if part["type"] != "null"), said)
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    if one["type"] == "array":
        return f"list of {_type(one['items'])}"
    word = FORMATS.get(one.get("format", ""), WORDS.get(one["type"], one["type"]))
    return " ".join([word, *(f"{sign} {one[limit]:g}" for limit, sign in LIMITS.items() if limit in one)])


def _default(value: Any) -> str:
    return "-" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _answer(said: bool | str | None) -> str:
    if isinstance(said, bool):
        return "yes" if said else "no"
    return said or "-"


def _parameter(one: Any) -> str:
    if one.param_type_name == "argument":
        said = one.metavar or one.name.upper()
    else:
        flag = max(one.opts, key=len)
        said = flag if one.is_flag else f"{flag} {one.metavar or flag.strip('-').upper()}"
    return said if one.required else f"[{said}]"


def _head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield _row(*("---" for _ in names))


def _row(*cells: str) -> str:
    return " | ".join(("", *(cell.replace("|", r"\|") for cell in cells), "")).strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.docs_tables", description="The generated tables of the README.")
    parser.add_argument("--write", action="store_true", help="put them into the README; else only say whether it has them")
    text = README.read_text(encoding="utf-8")
    new = renewed(text)
    if parser.parse_args().write:
        README.write_text(new, encoding="utf-8")
    elif new != text:
        print("README.md is behind the code: python -m tests.docs_tables --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
