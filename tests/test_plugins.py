"""Handlers, transports and dialects by name: only what is named is imported, and whatever is wrong with it is one line."""

import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from investbus import Router
from investbus.errors import ConfigError
from investbus.plugins import BUILT_IN, CLIENTS, is_known, load_dialect, load_handlers, load_transport


@pytest.fixture(autouse=True)
def _bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with a package `bank`, as a bank would have it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("bank").mkdir()
    write("__init__", "")
    write("events", "from investbus import Router\n\nrouter = Router()\nother = Router()\nnumber = 7\n")
    importlib.invalidate_caches()
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(module: str, text: str) -> None:
    Path(f"bank/{module}.py").write_text(text)


def install(monkeypatch: pytest.MonkeyPatch, group: str, name: str, value: str) -> None:
    one = importlib.metadata.EntryPoint(name, value, group)
    found = {group: importlib.metadata.EntryPoints([one])}
    monkeypatch.setattr("investbus.plugins.entry_points", lambda group: found.get(group, importlib.metadata.EntryPoints()))


def test_handlers_come_from_the_current_folder_in_their_order() -> None:
    loaded = load_handlers(["bank.events:other", "bank.events:router"], [])
    events = sys.modules["bank.events"]
    assert [(name, router) for name, router in loaded] == [
        ("bank.events:other", events.other),
        ("bank.events:router", events.router),
    ]


def test_handlers_may_be_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "investbus.handlers", "bank", "bank.events:router")
    ((name, router),) = load_handlers(["bank"], [])
    assert (name, type(router)) == ("bank", Router)


def test_only_what_is_named_is_imported() -> None:
    write("loud", "raise SystemExit('imported')")
    load_handlers(["bank.events:router"], [])
    assert "bank.loud" not in sys.modules


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("bnk.events:router", '"bnk.events:router": there is no module bnk, neither in {here} nor installed'),
        ("bank.evnts:router", '"bank.evnts:router": there is no module bank.evnts, neither in {here} nor installed'),
        ("bank.events:ruoter", '"bank.events:ruoter": bank.events has no ruoter; did you mean router?'),
        ("bank.events:xyzzy", '"bank.events:xyzzy": bank.events has no xyzzy'),
        ("bank.events:number", '"bank.events:number" is of type int; an investbus.Router is needed'),
        ("bank.events", '"bank.events" is unknown; write module:attribute, such as bank.events:router'),
        ("bank/events.py:router", '"bank/events.py:router" is unknown; write module:attribute, such as bank.events:router'),
        (".events:router", '".events:router" is unknown; write module:attribute, such as bank.events:router'),
        ("bank.broken:router", '"bank.broken:router": bank/broken.py:2: ZeroDivisionError: division by zero'),
        ("bank.syntax:router", "\"bank.syntax:router\": bank/syntax.py:1: SyntaxError: '(' was never closed"),
        ("bank.needy:router", "\"bank.needy:router\": bank/needy.py:3: ModuleNotFoundError: No module named 'no_such_library'"),
        ("bank.exits:router", '"bank.exits:router": bank/exits.py:1: SystemExit: 3'),
        ("bank.deep:router", '"bank.deep:router": bank/deep.py:2: JSONDecodeError: Expecting value: line 1 column 1 (char 0)'),
        ("bank.binary:router", '"bank.binary:router": SyntaxError: source code string cannot contain null bytes'),
        ("bank.wordy:router", '"bank.wordy:router": bank/wordy.py:1: ValueError: one two'),
    ],
)
def test_what_is_wrong_with_handlers_is_one_line(name: str, line: str) -> None:
    write("broken", "x = 1\n1 / 0\n")
    write("syntax", "router = (\n")
    write("needy", "import json\n\nimport no_such_library\n")
    write("exits", "raise SystemExit(3)\n")
    write("deep", "import json\njson.loads('')\n")
    write("binary", "\0")
    write("wordy", "raise ValueError('one\\n  two')\n")
    mistakes: list[str] = []
    assert load_handlers([name], mistakes) == []
    assert mistakes == [f"handlers: {line.format(here=Path.cwd())}"]


def test_all_wrong_handlers_are_named_at_once() -> None:
    mistakes: list[str] = []
    assert [name for name, _ in load_handlers(["a:b", "bank.events:router", "c:d"], mistakes)] == ["bank.events:router"]
    assert [line.split('"')[1] for line in mistakes] == ["a:b", "c:d"]


def test_a_mistake_that_the_module_itself_reports_is_passed_on() -> None:
    write("strict", "from investbus.errors import ConfigError\nraise ConfigError(['bank/strict.py:9: no', 'and no'])\n")
    mistakes: list[str] = []
    load_handlers(["bank.strict:router"], mistakes)
    assert mistakes == ["bank/strict.py:9: no", "and no"]


@pytest.mark.parametrize("name", BUILT_IN["transport"])
def test_a_built_in_transport_is_a_class_of_that_name(name: str) -> None:
    assert getattr(load_transport(name), "name", None) == name


@pytest.mark.parametrize("name", BUILT_IN["dialect"])
def test_a_built_in_dialect_is_a_decode_function(name: str) -> None:
    assert getattr(load_dialect(name), "__name__", None) == "decode"


@pytest.mark.parametrize("name", CLIENTS)
def test_a_transport_without_its_client_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [one for one in sys.modules if one.startswith((CLIENTS[name], f"investbus.transports.{name}"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, CLIENTS[name], None)
    with pytest.raises(ConfigError) as caught:
        load_transport(name)
    assert caught.value.lines == (f'transport: "{name}" needs the extra: pip install "investbus[{name}]"',)


def test_an_unknown_transport_names_what_is_near_entry_points_included(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "investbus.transports", "pulsar", "bank.events:number")
    assert is_known("transport", "pulsar")
    assert repr(load_transport("pulsar")) == "7"
    with pytest.raises(ConfigError) as caught:
        load_transport("pulsr")
    assert caught.value.lines == ('transport: "pulsr" is unknown; did you mean pulsar?',)


def test_a_dialect_may_be_an_import_string() -> None:
    write("dialect", "def decode(body, headers):\n    return []\n")
    assert load_dialect("bank.dialect:decode")(b"", {}) == []
