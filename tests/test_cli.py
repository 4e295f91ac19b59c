"""The command line: options anywhere, results on stdout, errors on stderr in one line, and an exit code that means something."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped] # it ships no types
import pytest
import typer
import yaml
from typer.main import get_command

from investbus import Reject, cli
from investbus.cli import main
from investbus.cli.config import shown
from investbus.cli.filters import moment
from investbus.errors import ApiUnavailable, ConfigError, StoreError, TransportDown, TransportRefused, UnsafeStart
from investbus.version import __version__

INVESTBUS = Path(sys.executable).with_name("investbus")
MEMORY = "transport: memory\nops: {port: 1}\n"


@pytest.fixture(autouse=True)
def _folder_with_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(MEMORY)


def shown_settings(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main(argv) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


# ---- global options


@pytest.mark.parametrize(
    "argv",
    [
        ("-c", "c.yaml", "--set", "ops.port=2", "--set", "ops.host=::1", "--format", "json", "config", "show"),
        ("config", "show", "-c", "c.yaml", "--set", "ops.port=2", "--set", "ops.host=::1", "--format", "json"),
        ("config", "--config=c.yaml", "--set=ops.port=2", "show", "--set", "ops.host=::1", "--format=json"),
        ("-cc.yaml", "config", "--format", "json", "show", "--set=ops.port=9", "--set=ops.port=2", "--set=ops.host=::1"),
    ],
)
def test_global_options_stand_before_or_after_the_verb(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert shown_settings(capsys, *argv)["ops"] == {"host": "::1", "port": 2}


def test_what_follows_two_dashes_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "-c", "c.yaml", "--", "--format", "json"]) == 2
    assert "unexpected extra argument" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [("--version",), ("config", "show", "--version"), ("nonsense", "--version")])
def test_version_needs_nothing_else(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    assert capsys.readouterr().out == f"investbus {__version__}\n"


# ---- usage


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("confg",), "investbus: No such command 'confg'. Did you mean 'config'?; see investbus --help"),
        (("config",), "investbus config: Missing command; see investbus config --help"),
        (("config", "show", "--orign"), "investbus config show: No such option: --orign (Possible options: --origin)"),
        (("config", "show", "-c"), "investbus: Option '-c' requires an argument; see investbus --help"),
        (("--format", "xml", "config", "show"), "investbus: Invalid value for '--format': 'xml' is not one of 'text', 'json'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(argv: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == 1


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"], ["-c", "c.yaml", "--help"]])
def test_help_is_easy_to_get(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    assert "investbus demo" in capsys.readouterr().out


def verbs() -> list[list[str]]:
    found: list[list[str]] = []

    def walk(command: Any, words: list[str]) -> None:
        found.extend([words] if not hasattr(command, "commands") else [])
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, [*words, name])

    walk(get_command(cli._app()), [])
    return found


@pytest.mark.parametrize("words", verbs(), ids=" ".join)
def test_the_help_of_every_verb_teaches_by_an_example(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    usage, sentence, example, *_ = capsys.readouterr().out.split("\n\n")
    assert usage.startswith(f"Usage: investbus {' '.join(words)} ")
    assert sentence.strip()[0].isupper()
    assert example.strip().startswith(f"Example: investbus {' '.join(words)}")


# ---- exit codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(["a: one", "b: two"]), 2),
        (TransportDown("bus:\n  gone"), 3),
        (TransportRefused("bus says no"), 3),
        (StoreError("store is full"), 3),
        (ApiUnavailable("503"), 3),
        (UnsafeStart("position is damaged"), 4),
        (typer.Abort(), 1),
        (typer.BadParameter("--rate: at least 1"), 2),
    ],
)
def test_an_exception_becomes_lines_and_an_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("investbus.cli.config.settings", _raising(error))
    assert main(["config", "show"]) == code
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", len(error.lines) if isinstance(error, ConfigError) else 1)


@pytest.mark.parametrize("error", [ZeroDivisionError(), Reject("only handlers raise this")])
def test_a_bug_is_a_stack_trace_and_exit_70(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("investbus.cli.config.settings", _raising(error))
    assert main(["config", "show"]) == 70
    assert type(error).__name__ in capsys.readouterr().err.splitlines()[-1]


def test_an_interrupted_verb_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("investbus.cli.config.settings", _raising(KeyboardInterrupt()))
    assert main(["config", "show"]) == 130


def _raising(error: BaseException) -> Callable[..., None]:
    def settings(*_: object) -> None:
        raise error

    return settings


# ---- config show, config schema


def test_config_show_hides_every_secret(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s").write_text("s3cr3t")
    Path("c.yaml").write_text(
        "transport: kafka\n"
        "kafka:\n  bootstrap_servers: [k:1]\n  topic: t\n  group: g\n"
        "  security: {protocol: SASL_SSL, mechanism: PLAIN, username: mw, password: s3cr3t, token: s3cr3t}\n"
        "api: {base_url: https://x, access_key_id: s3cr3t, secret_access_key_file: s}\n"
    )
    for flags in ([], ["--origin"], ["--format", "json"], ["--format", "json", "--origin"]):
        assert main(["config", "show", "-c", "c.yaml", *flags]) == 0
        out = capsys.readouterr().out
        assert "s3cr3t" not in out
        assert out.count("***") == 3


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("postgresql://mw:s3c@r3t@db/x", "postgresql://***@db/x"),
        ("https://token@host/", "https://***@host/"),
        ("postgresql://db/x?sslpassword=s3cr3t&a=b", "postgresql://db/x?sslpassword=***&a=b"),
        ("sqlite:////var/lib/state.db", "sqlite:////var/lib/state.db"),
        ("kafka-1:9092", "kafka-1:9092"),
    ],
)
def test_no_password_of_a_url_is_shown(text: str, safe: str) -> None:
    assert shown([text]) == [safe]


def test_config_show_is_yaml_that_loads_again(capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "show", "-c", "c.yaml"])
    Path("again.yaml").write_text(capsys.readouterr().out)
    assert shown_settings(capsys, "config", "show", "-c", "again.yaml", "--format", "json") == shown_settings(
        capsys, "config", "show", "-c", "c.yaml", "--format", "json"
    )


def test_config_show_origin_has_a_row_for_every_value(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVESTBUS_LOG__LEVEL", "debug")
    argv = ["config", "show", "--origin", "-c", "c.yaml", "--set", "routes.a.b.timeout=3"]
    assert main([*argv, "--format", "json"]) == 0
    rows = {row["key"]: (row["value"], row["origin"]) for row in json.loads(capsys.readouterr().out)}
    assert rows["ops.port"] == (1, "c.yaml:2")
    assert rows["log.level"] == ("debug", "INVESTBUS_LOG__LEVEL")
    assert rows["routes.a.b.timeout"] == (3.0, "--set")
    assert rows["gate.failures"] == (3, "default")
    assert main(argv) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 1 + len(rows)
    assert ["ops.port", "1", "c.yaml:2"] in lines


def test_the_schema_fits_the_example_and_describes_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    example = yaml.safe_load((Path(__file__).parents[1] / "config" / "example.yaml").read_text())
    jsonschema.validate(example, schema)
    with pytest.raises(jsonschema.ValidationError, match="slotz"):
        jsonschema.validate(example | {"dispatch": {"slotz": 1}}, schema)
    models = [schema, *schema["$defs"].values()]
    assert [name for model in models for name, one in model["properties"].items() if "description" not in one] == []


# ---- the command as it is installed


def on_a_terminal(*argv: str, **env: str) -> str:
    """What the command writes to a terminal."""
    primary, secondary = pty.openpty()
    command = subprocess.Popen([INVESTBUS, *argv], stdout=secondary, stderr=secondary, env=os.environ | {"TERM": "xterm"} | env)
    os.close(secondary)
    seen = b""
    try:
        while block := os.read(primary, 65536):
            seen += block
    except OSError:  # how Linux says that the other side has closed
        pass
    finally:
        os.close(primary)
    assert command.wait(60) == 0
    return seen.decode()


def test_colour_is_for_terminals_that_want_it() -> None:
    argv = ("config", "show", "--origin", "-c", "c.yaml")
    assert "\x1b[1m" in on_a_terminal(*argv)
    assert "\x1b" not in subprocess.run([INVESTBUS, *argv], capture_output=True, text=True, timeout=60, check=True).stdout


def test_no_color_is_honoured() -> None:
    assert "\x1b[3" not in on_a_terminal("config", "show", "--origin", "-c", "c.yaml", NO_COLOR="1")


def test_a_closed_pipe_is_no_stack_trace() -> None:
    command = f"{INVESTBUS} config show --origin -c c.yaml | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("k", "")


@pytest.mark.parametrize("code", ["import investbus", "from investbus.cli import main; main(['--version'])"])
def test_the_heavy_libraries_stay_out(code: str) -> None:
    """What takes long to import is only imported by what needs it."""
    heavy = "{'aiokafka', 'pydantic_settings', 'prometheus_client', 'rich.table', 'sqlite3', 'yaml'}"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(sorted({heavy} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_store_that_was_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A relative path in another folder is another store: a pause there holds nobody."""
    monkeypatch.chdir(tmp_path)
    sets = ('handlers=["json"]', "file.path=e.ndjson", "store.url=sqlite:///state.db")
    words = [word for each in sets for word in ("--set", each)] + ["--format", "json"]
    assert main(["dlq", "list", *words]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == []
    assert err.startswith(f"note: there was no store at {tmp_path / 'state.db'}; this one is new and empty.")
    assert main(["dlq", "list", *words]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", timedelta(hours=2)),
        ("90s", timedelta(seconds=90)),
        ("7d", timedelta(days=7)),
        ("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC)),
        ("2026-11-21 12:30", datetime(2026, 11, 21, 12, 30, tzinfo=UTC)),
        ("2026-11-21T12:30:05.5+01:00", datetime(2026, 11, 21, 11, 30, 5, 500_000, tzinfo=UTC)),
        ("2026-11-21T12:30Z", datetime(2026, 11, 21, 12, 30, tzinfo=UTC)),
    ],
)
def test_a_time_is_one_of_the_calendar_or_so_long_ago(text: str, expected: datetime | timedelta) -> None:
    found = moment(text)
    if isinstance(expected, timedelta):
        assert abs(datetime.now(UTC) - expected - found) < timedelta(seconds=5)
    else:
        assert found == expected


@pytest.mark.parametrize("text", ["nope", "2x", "-2h", "99999999999d", "2026-13-01", "0001-01-01T00:00+14:00"])
def test_what_is_no_time_is_told_with_what_is(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no time; write 2h, 30m or 7d"):
        moment(text)


def test_a_raw_message_takes_no_envelope_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "--raw", str(tmp_path / "body"), "--id", "e1"]) == 2
    assert capsys.readouterr().err == "send: --raw FILE is a whole message; leave out --data, --id and --created\n"
