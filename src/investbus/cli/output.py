"""Results on stdout: JSON for programs, a table for people.

What is shown came over the bus, so control characters are spelled out before a terminal can obey them. Into a pipe goes every
character of every cell, however long.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import typer

UNBOUNDED = 1_000_000  # columns, where there is no terminal


def emit(ctx: typer.Context, value: Any) -> None:
    """Print one thing or a list of things, in the form that `--format` asks for."""
    value = msgspec.to_builtins(value, str_keys=True)
    if ctx.obj.format == "json":
        print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode(), flush=True)
    elif isinstance(value, Mapping):
        _table(["", ""], [[name, cell] for name, cell in value.items()])
    elif value and isinstance(value[0], Mapping):
        names = list(dict.fromkeys(name for row in value for name in row))
        _table([name.replace("_", " ") for name in names], [[row.get(name) for name in names] for row in value])
    else:
        _table([""], [[cell] for cell in value])


def plain(text: str) -> str:
    """`text` with its control characters spelled out."""
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return plain(value)
        case bool() | Mapping() | Sequence():
            return plain(msgspec.json.encode(value).decode())
    return str(value)


def _table(names: list[str], rows: list[list[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    table = Table(box=None, pad_edge=False, show_header=any(names), header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=not terminal or name == "id", overflow="fold")  # an id is there to be copied
    for row in rows:
        table.add_row(*(Text(_cell(cell)) for cell in row))
    console = Console(force_terminal=terminal, width=None if terminal else UNBOUNDED)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())
    sys.stdout.flush()
