"""What verbs print: JSON for programs, a table for people, and nothing from the bus that a terminal would obey."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import typer
from typer.main import get_command

from investbus import cli
from investbus.cli import Format, State
from investbus.cli.output import emit


class Thing(msgspec.Struct):
    id: str
    amount: Decimal
    note: str | None = None


def printed(value: Any, form: Format, capsys: pytest.CaptureFixture[str]) -> str:
    context = typer.Context(get_command(cli._app()), obj=State(format=form))
    emit(context, value)
    return capsys.readouterr().out


def test_json_is_an_array_for_lists_and_an_object_for_one_thing(capsys: pytest.CaptureFixture[str]) -> None:
    one = {"id": "a\x1b[31m", "amount": "1.10", "note": None}
    thing = Thing("a\x1b[31m", Decimal("1.10"))
    assert json.loads(printed([thing], "json", capsys)) == [one]
    assert json.loads(printed(thing, "json", capsys)) == one
    assert json.loads(printed([], "json", capsys)) == []


def test_a_table_in_a_pipe_is_whole_and_without_control_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    long = "x" * 300
    out = printed([Thing(long, Decimal(1)), Thing("b\x1b[31m[bold]\r", Decimal(2), "n")], "text", capsys)
    head, first, second = out.splitlines()
    assert head.split() == ["id", "amount", "note"]
    assert first.split() == [long, "1"]
    assert second.split() == ["b\\x1b[31m[bold]\\r", "2", "n"]
    assert printed([], "text", capsys) == ""


def test_one_thing_in_text_keeps_the_lines_of_a_stack(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed({"id": "a", "stack": "one\ntwo\x07", "tries": [{"at": 1}], "open": True}, "text", capsys)
    assert [line.split() for line in out.splitlines()] == [
        ["id", "a"],
        ["stack", "one"],
        ["two\\x07"],
        ["tries", '[{"at":1}]'],
        ["open", "true"],
    ]
