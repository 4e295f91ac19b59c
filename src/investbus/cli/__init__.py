"""The command line: global options before or after the verb, and the one place where an exception becomes an exit code.

A verb family is a module here with `app = typer.Typer()`. Its imports at the top stay light, so that `--version`, `--help` and a
wrong configuration answer at once; what a verb needs it imports when it runs.
"""

import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from typer.exceptions import TyperException
from typer.main import get_command

from investbus.errors import ApiUnavailable, ConfigError, StoreError, TransportDown, UnsafeStart
from investbus.version import __version__

if TYPE_CHECKING:
    from investbus.config_load import Loaded

FAMILIES = ("demo", "run", "config", "dlq", "replay", "pause")  # in the order of `--help`
PROGRAM = "investbus"
HELP = {"help_option_names": ["-h", "--help"]}
VALUED = ("-c", "--config", "--set", "--format")

Format = Literal["text", "json"]


class State(msgspec.Struct, frozen=True):
    """The global options, as `ctx.obj`."""

    config: Path | None = None
    sets: tuple[str, ...] = ()
    format: Format = "text"
    places: dict[str, str] = {}
    """Where each key of the configuration stands, once it is loaded."""


def settings(ctx: typer.Context) -> "Loaded":
    """The configuration in effect. Raises ConfigError."""
    from investbus.config_load import load

    loaded = load(ctx.obj.config, ctx.obj.sets, os.environ)
    ctx.obj.places.update(loaded.places)
    return loaded


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and say its exit code."""
    for client in ("aiokafka", "aiormq", "azure", "psycopg"):
        logging.getLogger(client).addHandler(logging.NullHandler())  # what it would say on stderr, our one line says
    words = list(_hoisted(sys.argv[1:] if argv is None else argv)) or ["--help"]
    places: dict[str, str] = {}
    try:
        code = get_command(_app()).main(words, PROGRAM, standalone_mode=False, obj=places)
    except typer.Abort:
        return _say(["stopped"], 1)
    except ConfigError as error:
        return _say([_placed(line, places) for line in error.lines], 2)
    except TyperException as error:
        return _say([_usage(error)], 2)
    except (TransportDown, StoreError, ApiUnavailable) as error:
        return _say([str(error)], 3)
    except UnsafeStart as error:
        return _say([str(error)], 4)
    except Exception:
        traceback.print_exc()
        return 70
    return code if isinstance(code, int) else 0


def _say(lines: Sequence[str], code: int) -> int:
    for line in lines:
        print(" ".join(line.split()), file=sys.stderr)
    return code


def _placed(line: str, places: Mapping[str, str]) -> str:
    """A line about a key of the configuration, with the place where that stands."""
    first = line.partition(" ")[0]
    key = first.removesuffix(":")
    return f"{places[key]}: {line}" if key in places and (key != first or "." in key) else line


def _usage(error: TyperException) -> str:
    command = getattr(getattr(error, "ctx", None), "command_path", PROGRAM)
    said = error.format_message().replace("Value error, ", "").rstrip(".")
    return f"{command}: {said}; see {command} --help"


def _hoisted(argv: Sequence[str]) -> Iterator[str]:
    """The global options first, wherever before a `--` they stood."""
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, _ = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif word == "--version" or (equals and name in VALUED) or (word.startswith("-c") and word != "-c"):
            yield word
        elif word in VALUED:
            yield word
            if (value := next(words, None)) is None:
                return  # the parser says what is missing, as long as nothing follows
            yield value
        else:
            rest.append(word)
    yield from rest


def _app() -> typer.Typer:
    app = typer.Typer(callback=_options, add_completion=False, rich_markup_mode=None, context_settings=HELP)
    for family in FAMILIES:
        app.add_typer(import_module(f"{__name__}.{family}").app)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _options(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", metavar="PATH", help="Configuration file; else INVESTBUS_CONFIG, else ./investbus.yaml."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set one key, such as ops.port=9465; may stand several times."),
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="Form of the result on stdout.")] = "text",
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Handlers for the events of investment platforms: ordered, retried, never lost.

    These options may stand before or after the verb. Begin with: investbus demo
    """
    ctx.obj = State(config, tuple(sets or ()), output, ctx.obj)
