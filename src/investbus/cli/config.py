"""`config show` and `config schema`: what is in effect and why, and what there is."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from investbus.cli import settings
from investbus.cli.output import emit

app = typer.Typer()
verbs = typer.Typer(help="What is configured, and what can be.")
app.add_typer(verbs, name="config")

HIDDEN = "***"
_LOGIN_IN_URL = re.compile(r"://\S*@")
_SECRET_IN_URL = re.compile(r"(?i)([?&][^=&\s]*(?:password|secret|token|key)[^=&\s]*=)[^&\s]*")


@verbs.command()
def show(
    ctx: typer.Context, origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False
) -> None:
    """Print the configuration in effect, secrets as ***.

    Example: investbus config show --origin
    """
    loaded = settings(ctx)
    values = shown(loaded.settings.model_dump())
    if origin:
        flat = dict(_flat(values))
        emit(ctx, [{"key": key, "value": flat[key], "origin": place} for key, place in loaded.origins.items()])
    elif ctx.obj.format == "json":
        emit(ctx, values)
    else:
        import yaml

        print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=4096), end="", flush=True)


@verbs.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors.

    Example: investbus config schema > investbus.schema.json
    """
    from investbus.config import Settings

    print(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | Settings.model_json_schema(), indent=2))


def shown(value: Any) -> Any:
    """A value as it may be shown to anybody."""
    from pydantic import SecretStr

    match value:
        case SecretStr():
            return HIDDEN
        case Path():
            return str(value)
        case dict():
            return {name: shown(one) for name, one in value.items()}
        case list():
            return [shown(one) for one in value]
        case str():
            return _SECRET_IN_URL.sub(rf"\g<1>{HIDDEN}", _LOGIN_IN_URL.sub(f"://{HIDDEN}@", value))
    return value


def _flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
