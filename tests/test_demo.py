"""The demo and the sandbox as a newcomer meets them: the command in a process of its own, and the files that it leaves."""

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from investbus.demo.folder import NAMES
from investbus.sandbox import CREDENTIALS

PROGRAM = Path(sys.executable).with_name("investbus")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("INVESTBUS_")}
ON_PATH = {**ENVIRONMENT, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
NOT_ON_PATH = {**ENVIRONMENT, "PATH": "/usr/bin:/bin"}

Ran = subprocess.CompletedProcess[str]


def command(line: str, folder: Path, env: dict[str, str] = ON_PATH) -> Ran:
    program, *words = shlex.split(line)
    program = str(PROGRAM) if program == "investbus" else program
    return subprocess.run([program, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def started(line: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A command at work; if it is still there at the end, the test has failed before."""
    arguments = [str(PROGRAM), *shlex.split(line)]
    with subprocess.Popen(arguments, cwd=folder, env=ON_PATH, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_with(stream: IO[str], words: str) -> str:
    """The next line of `stream` that holds `words`."""
    return next(line for line in stream if words in line)


def ended(process: "subprocess.Popen[str]", number: signal.Signals) -> tuple[int, str, str]:
    """What a command does when it is told to stop: exit code, and the rest of what it says."""
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def ran(folder: Path) -> Ran:
    """The demo as it comes."""
    return command("investbus demo --format json", folder)


@pytest.fixture(scope="module")
def summary(ran: Ran) -> dict[str, Any]:
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.mark.slow
def test_every_message_ends_as_planned_and_the_numbers_agree(summary: dict[str, Any]) -> None:
    assert summary["findings"] == []
    assert summary["planned"] == summary["counted"]
    assert sum(summary["counted"].values()) == summary["events"] == 300
    assert sum(row["received"] for row in summary["routes"]) == 300
    assert all(row["received"] == sum(row["outcomes"].values()) for row in summary["routes"])
    assert sum(summary["dead_letters"].values()) == sum(row["outcomes"].get("dead", 0) for row in summary["routes"])
    assert summary["duplicates_skipped"] == summary["counted"]["duplicate"] > 0
    assert summary["seconds"] < 15


@pytest.mark.slow
def test_every_planned_trouble_happens(summary: dict[str, Any]) -> None:
    assert summary["dead_letters"].keys() == {"undecodable", "data_invalid", "rejected", "exhausted"}
    assert summary["gate_closures"] == 1
    assert summary["logins"] == 2
    assert {"2xx", "5xx", "401", "202"} <= {row["status"] for row in summary["api_calls"]}
    assert any(row["operation"] == "POST /events/withdraw/" and row["status"] == "2xx" for row in summary["api_calls"])


@pytest.mark.slow
def test_the_commands_that_it_prints_show_what_failed(summary: dict[str, Any], folder: Path) -> None:
    groups_command, show, *more = summary["commands"]
    assert groups_command == "investbus dlq list --group -c .demo/investbus.yaml"
    groups = json.loads(command(f"{groups_command} --format json", folder).stdout)
    assert sum(group["count"] for group in groups) == sum(summary["dead_letters"].values())
    assert {group["error"] for group in groups} == {"DecodeError", "DataInvalid", "Reject", "LookupError"}
    assert "LookupError" in command(show, folder).stdout
    for line in more[:2]:  # the third is the demo again
        assert command(line, folder).returncode == 0, line


@pytest.mark.slow
def test_progress_is_told_in_plain_lines_and_nothing_tells_secrets_or_data(ran: Ran, folder: Path) -> None:
    assert "\x1b" not in ran.stderr + ran.stdout
    assert "of 300 ended" in ran.stderr
    said = ran.stdout + ran.stderr + (folder / ".demo/worker.log").read_text()
    assert not [secret for secret in CREDENTIALS if secret in said]
    values: set[str] = set()
    for line in (folder / ".demo/events.ndjson").read_bytes().splitlines():
        try:
            data = json.loads(line).get("data", {})
        except ValueError:
            continue
        values |= {value for value in data.values() if isinstance(value, str) and len(value) > 8}
    assert len(values) > 100
    assert not [value for value in values if value in said]


@pytest.mark.slow
def test_what_it_leaves_is_for_the_owner(summary: dict[str, Any], folder: Path) -> None:
    assert {path.name for path in (folder / ".demo").iterdir()} <= NAMES
    for name in ("api_id", "api_key", "events.ndjson", "state.db"):
        assert stat.S_IMODE((folder / ".demo" / name).stat().st_mode) == 0o600, name
    config = (folder / ".demo/investbus.yaml").read_text()
    assert str(folder / ".demo") in config
    assert not [secret for secret in CREDENTIALS if secret in config]


@pytest.mark.slow
def test_a_second_demo_in_the_same_folder_begins_anew(summary: dict[str, Any], folder: Path) -> None:
    second = command(f"{PROGRAM} demo --events 20", folder, NOT_ON_PATH)
    assert second.returncode == 0, second.stderr
    assert second.stdout.startswith("20 messages in ")
    assert "Events by route and outcome:\n" in second.stdout
    pasted = next(line for line in second.stdout.splitlines() if "dlq list --group" in line).strip()
    assert shlex.split(pasted)[0] == str(PROGRAM)  # `investbus` alone would not be found
    groups = json.loads(command(f"{pasted} --format json", folder, NOT_ON_PATH).stdout)
    dead = next(line for line in second.stdout.splitlines() if line.startswith("total")).split()
    assert sum(group["count"] for group in groups) == int(dead[3])  # total, received, done, dead
    assert len((folder / ".demo/events.ndjson").read_bytes().splitlines()) == 20


@pytest.mark.slow
def test_keep_stays_up_until_it_is_stopped(tmp_path: Path) -> None:
    with started("demo --keep --events 12", tmp_path) as process:
        assert process.stdout is not None
        url = line_with(process.stdout, "/readyz").split()[-1]
        config = (tmp_path / ".demo/investbus.yaml").read_text()
        again = command("investbus demo --events 1", tmp_path)
        assert (again.returncode, "another worker" in again.stderr) == (4, True)
        assert (tmp_path / ".demo/investbus.yaml").read_text() == config
        with urllib.request.urlopen(url) as answer:  # noqa: S310 the test has made this URL
            assert answer.status == 200
        code, _, err = ended(process, signal.SIGTERM)
    assert code == 0, err
    assert int(err.split("stopped; ")[1].split()[0]) > 0  # the stream went on
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_demo_that_is_interrupted_says_so(tmp_path: Path) -> None:
    with started("demo", tmp_path) as process:
        assert process.stderr is not None
        line_with(process.stderr, "the platform takes")
        code, out, err = ended(process, signal.SIGINT)
    assert (code, out) == (4, "")
    assert "stopped early: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize("words", ["-c other.yaml", "--set ops.port=0"])
def test_the_demo_takes_no_other_configuration(tmp_path: Path, words: str) -> None:
    refused = command(f"investbus demo {words}", tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / ".demo").exists()


@pytest.mark.slow
def test_the_sandbox_serves_its_api_and_sends_to_the_configured_bus(tmp_path: Path) -> None:
    (tmp_path / "investbus.yaml").write_text("transport: file\nfile: {path: events.ndjson}\n")
    with started("sandbox --port 0 --rate 50 --portfolios 5 --format json", tmp_path) as process:
        assert process.stdout is not None
        api = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
        login = {"access_key_id": api["api.access_key_id"], "secret_access_key": api["api.secret_access_key"]}
        request = urllib.request.Request(f"{api['api.base_url']}/auth/login/", json.dumps(login).encode())  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310 the sandbox's own
            assert "access_token" in json.load(answer)
        log = tmp_path / "events.ndjson"
        while not log.exists() or log.read_bytes().count(b"\n") < 40:
            assert process.poll() is None
        code, _, err = ended(process, signal.SIGTERM)
    assert code == 0, err
    sent = int(err.split("stopped; ")[1].split()[0])
    assert 20 <= sent <= log.read_bytes().count(b"\n")  # a batch that was being written when it stopped is not counted
    assert "1 calls answered" in err


def test_the_sandbox_says_in_one_line_why_it_does_not_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = command(f"investbus sandbox --port {port} --set transport=file --set file.path=e.ndjson", tmp_path)
    assert busy.returncode == 2
    assert busy.stderr.startswith(f"--port {port}: cannot be listened on: Address already in use")
    memory = command("investbus sandbox --port 0 --set transport=memory", tmp_path)
    assert (memory.returncode, memory.stderr.count("\n")) == (2, 1)
    assert memory.stderr.startswith("--set: transport: memory")
