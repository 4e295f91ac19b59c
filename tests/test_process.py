"""The worker as a process: signals, exit codes, and what a kill between store and commit leaves behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.brokers.process import GUARD
from tests.whole import envelope, letters, publish, settings_in, until

INVESTBUS = Path(sys.executable).with_name("investbus")
HANDLERS = '''
import asyncio, os, time
from investbus import Router
router = Router()

def note(text):
    with open("ledger", "a") as file:
        file.write(text + "\\n")

@router.on("portfolios.status-update")
async def handle(event, ctx):
    note("begin " + event.id)
    match event.data.get("value"):
        case "SLOW": await asyncio.sleep(2.0)
        case "ENDLESS": await asyncio.sleep(1000.0)
        case "BLOCK": time.sleep(1000.0)
        case "STUBBORN":
            while True:
                try: await asyncio.sleep(1000.0)
                except asyncio.CancelledError: note("refused " + event.id)
        case "FAIL": raise ValueError("always")
    note("end " + event.id)
'''
IMPORTS = """
note("importing")
time.sleep(2.0)
"""
LIFESPAN = """
from contextlib import asynccontextmanager

@router.lifespan
@asynccontextmanager
async def resources():
    note("opening")
    try:
        await asyncio.sleep(1000.0)
        yield
    finally:
        note("closed")
"""


class Process:
    """`investbus run` in a folder of its own."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.settings = settings_in(folder, **({"handlers": ["hand:router"]} | changes))
        (folder / "hand.py").write_text(HANDLERS)
        sections = {"handlers", "transport", "file", "store", "ops", "retry", "shutdown", "dispatch"}
        dumped = self.settings.model_dump(mode="json", include=sections)
        (folder / "investbus.yaml").write_text(yaml.safe_dump(dumped))
        self.running: subprocess.Popen[str] | None = None

    def start(self, *flags: str, **environment: str) -> None:
        self.running = subprocess.Popen(
            [sys.executable, GUARD, str(os.getpid()), INVESTBUS, "run", *flags],
            cwd=self.folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def signal(self, number: int) -> None:
        assert self.running is not None
        self.running.send_signal(number)

    def ended(self, limit: float = 30.0) -> tuple[int, str]:
        """Exit code and standard error."""
        assert self.running is not None
        _, said = self.running.communicate(timeout=limit)
        return self.running.returncode, said

    def ledger(self) -> list[str]:
        path = self.folder / "ledger"
        return path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []  # a line may just be being written


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    one = Process(tmp_path)
    yield one
    if one.running is not None:
        one.running.kill()
        one.running.communicate()


def events(value: str, count: int, first: int = 0) -> list[bytes]:
    """Events of one key each."""
    return [envelope(event_id=f"{value}-{n}", data={"id": f"P{n}", "value": value}) for n in range(first, first + count)]


async def test_sigterm_drains_and_what_was_drained_never_runs_again(process: Process) -> None:
    process = Process(process.folder, dispatch={"slots": 4})
    await publish(process.settings, *events("SLOW", 12))
    process.start()
    await until(lambda: len(process.ledger()) >= 4)
    process.signal(signal.SIGTERM)
    code, said = await asyncio.to_thread(process.ended)
    assert code == 0, said
    drained = {line.split()[1] for line in process.ledger() if line.startswith("end")}
    assert drained == {line.split()[1] for line in process.ledger() if line.startswith("begin")}
    process.start("--until-idle", "0.5")
    code, said = await asyncio.to_thread(process.ended)
    assert code == 0, said
    begun = [line for line in process.ledger() if line.startswith("begin")]
    assert len(begun) == len(set(begun)) == 12


async def test_grace_that_runs_out_cancels_and_says_so(process: Process) -> None:
    process = Process(process.folder, shutdown={"grace": 1.0}, dispatch={"timeout": 60.0})
    await publish(process.settings, *events("ENDLESS", 1))
    process.start()
    await until(lambda: len(process.ledger()) == 1)
    process.signal(signal.SIGTERM)
    code, said = await asyncio.to_thread(process.ended)
    assert code == 4, said
    assert await letters(process.settings) == []
    position = process.folder / "events.ndjson.position"
    assert not position.exists() or json.loads(position.read_text())["position"] == 0


@pytest.mark.parametrize("value", ["ENDLESS", "BLOCK"])
async def test_a_second_signal_leaves_at_once(value: str, process: Process) -> None:
    await publish(process.settings, *events(value, 1))
    process.start()
    await until(lambda: len(process.ledger()) == 1)
    process.signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    process.signal(signal.SIGTERM)
    told = time.monotonic()
    code, said = await asyncio.to_thread(process.ended)
    assert code == 4
    assert "second signal" in said
    assert time.monotonic() - told < 3.0


async def test_a_signal_that_comes_twice_at_once_is_one(process: Process) -> None:
    """As from coreutils' `timeout`, which tells its child and then the whole group."""
    await publish(process.settings, *events("SLOW", 1))
    process.start()
    await until(lambda: len(process.ledger()) == 1)
    process.signal(signal.SIGTERM)
    process.signal(signal.SIGTERM)
    code, said = await asyncio.to_thread(process.ended)
    assert code == 0, said
    assert process.ledger()[1].startswith("end")


@pytest.mark.parametrize("starting", [IMPORTS, LIFESPAN], ids=["imports", "lifespan"])
async def test_a_signal_before_there_is_a_worker_ends_the_start(starting: str, process: Process) -> None:
    (process.folder / "hand.py").write_text(HANDLERS + starting)
    process.start()
    await until(lambda: len(process.ledger()) == 1)
    process.signal(signal.SIGTERM)
    code, said = await asyncio.to_thread(process.ended)
    assert code == 0, said
    assert "Traceback" not in said
    assert process.ledger()[1:] == (["closed"] if starting == LIFESPAN else [])


async def test_a_handler_that_swallows_its_cancellation_cannot_keep_the_process(process: Process) -> None:
    process = Process(process.folder, shutdown={"grace": 1.0})
    await publish(process.settings, *events("STUBBORN", 1))
    process.start()
    await until(lambda: len(process.ledger()) == 1)
    process.signal(signal.SIGTERM)
    code, said = await asyncio.to_thread(process.ended)
    assert code == 4, said


async def test_a_job_ends_when_idle_or_when_it_has_taken_enough(process: Process) -> None:
    """What was taken has ended then, also what queued behind another event of its key."""
    await publish(process.settings, *(envelope(event_id=f"{n}", data={"id": "P1", "value": "SLOW"}) for n in range(3)))
    await publish(process.settings, *events("OK", 7))
    process.start("--max-events", "3")
    code, said = await asyncio.to_thread(process.ended)
    assert code == 0, said
    assert len([line for line in process.ledger() if line.startswith("end")]) == 3
    process.start("--until-idle", "0.5")
    code, said = await asyncio.to_thread(process.ended)
    assert code == 0, said
    assert len([line for line in process.ledger() if line.startswith("end")]) == 10


async def test_kill_9_between_store_and_commit_repeats_nothing(process: Process) -> None:
    """Done and dead are on disk before the position is; the redelivered copies are recognised."""
    await publish(process.settings, *events("OK", 5), *events("FAIL", 2, first=5))
    process.start()
    position = process.folder / "events.ndjson.position"
    await until(lambda: sum(line.startswith("end") for line in process.ledger()) == 5)
    for _ in range(400):
        if len(await letters(process.settings)) == 2:
            break
        await asyncio.sleep(0.02)
    process.signal(signal.SIGKILL)
    await asyncio.to_thread(process.ended)
    position.unlink(missing_ok=True)  # as if the kill had come before any position was saved
    before = process.ledger()
    process.start("--until-idle", "0.5")
    code, said = await asyncio.to_thread(process.ended)
    assert code == 0, said
    assert process.ledger() == before
    assert len(await letters(process.settings)) == 2
    log_size = (process.folder / "events.ndjson").stat().st_size
    assert json.loads(position.read_text())["position"] == log_size


async def test_a_second_worker_on_one_log_is_refused(process: Process) -> None:
    process.start()
    await until((process.folder / "events.ndjson.position.lock").exists)
    await asyncio.sleep(0.5)
    second = Process(process.folder)
    second.start()
    code, said = await asyncio.to_thread(second.ended)
    assert code == 4, said
    assert said.strip().splitlines()[-1].count("worker")
    assert "Traceback" not in said


async def test_a_damaged_position_is_refused_in_one_line(process: Process) -> None:
    await publish(process.settings, *events("OK", 1))
    (process.folder / "events.ndjson.position").write_text("{broken")
    process.start("--until-idle", "0.5")
    code, said = await asyncio.to_thread(process.ended)
    assert code == 4, said
    assert "events.ndjson.position" in said
    assert "Traceback" not in said
    assert process.ledger() == []
