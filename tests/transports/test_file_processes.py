"""The `file` transport among processes: a log that grows, several publishers, one worker at a time, a killed one."""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from investbus import config_bus
from investbus.errors import UnsafeStart
from investbus.transport import Delivery, Message
from investbus.transports.file import File

WRITER = """
import sys, time
with open(sys.argv[1], "ab", buffering=0) as log:
    for number in range(40):
        line = b'{"id": "%d"}\\n' % number
        for piece in (line[:5], line[5:]):
            log.write(piece)
            time.sleep(0.005)
"""

PUBLISHER = """
import asyncio, json, sys
from pathlib import Path
from investbus import config_bus
from investbus.transport import Message
from investbus.transports.file import File

async def publish(path, who):
    bus = File(config_bus.File(path=Path(path)), drain_cap=1, max_gap=1)
    print("ready", flush=True)
    sys.stdin.readline()
    for batch in range(50):
        bodies = [json.dumps({"who": who, "number": 4 * batch + n, "x": "x" * 3000}).encode() for n in range(4)]
        await bus.publish([Message(body) for body in bodies])

asyncio.run(publish(*sys.argv[1:]))
"""

WORKER = """
import asyncio, os, random, sys
from pathlib import Path
from investbus import config_bus
from investbus.transports.file import File

async def handle(delivery, effects):
    await asyncio.sleep(random.random() / 100)
    os.write(effects, delivery.body + b"\\n")
    delivery.ack()

async def work(path, effects_path):
    effects = os.open(effects_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    bus = File(config_bus.File(path=Path(path)), drain_cap=1, max_gap=500)
    await bus.open()
    print("ready", flush=True)
    tasks = set()
    while True:
        for delivery in await bus.receive(20):
            tasks.add(asyncio.create_task(handle(delivery, effects)))
        await asyncio.sleep(0.005)

asyncio.run(work(*sys.argv[1:]))
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events.ndjson"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(program: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def ready(process: subprocess.Popen[bytes]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == b"ready\n"


def a_bus(log: Path) -> File:
    return File(config_bus.File(path=log), drain_cap=0.05, max_gap=10_000)


async def take(bus: File, number: int) -> list[Delivery]:
    taken: list[Delivery] = []
    async with asyncio.timeout(30):
        while len(taken) < number:
            taken += await bus.receive(number - len(taken))
    return taken


def saved(log: Path) -> int:
    position = log.with_name(f"{log.name}.position")
    return int(json.loads(position.read_bytes())["position"]) if position.exists() else 0


async def test_a_log_that_another_process_writes_is_followed(log: Path, started: list[subprocess.Popen[bytes]]) -> None:
    bus = a_bus(log)
    await bus.open()
    started.append(start(WRITER, log))
    assert [one.body for one in await take(bus, 40)] == [b'{"id": "%d"}' % number for number in range(40)]
    await bus.close(1.0)


async def test_publishers_at_the_same_time_merge_no_lines_and_keep_their_order(
    log: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    bus = a_bus(log)
    await bus.open()
    started += [start(PUBLISHER, log, who) for who in "ab"]
    assert all(ready(publisher) for publisher in started)
    for publisher in started:
        assert publisher.stdin is not None
        publisher.stdin.write(b"\n")
        publisher.stdin.flush()
    events = [json.loads(one.body) for one in await take(bus, 400)]
    await bus.close(1.0)
    for who in "ab":
        assert [event["number"] for event in events if event["who"] == who] == list(range(200))
    assert sum(one["who"] != two["who"] for one, two in pairwise(events)) > 1, "they took no turns"


async def test_a_second_worker_is_refused_until_the_first_is_gone(log: Path, started: list[subprocess.Popen[bytes]]) -> None:
    started.append(first := start(WORKER, log, log.with_name("effects")))
    assert ready(first)
    second = a_bus(log)
    with pytest.raises(UnsafeStart, match="another worker") as refused:
        await second.open()
    assert str(log) in str(refused.value)
    await second.publish([Message(b"publishing needs no lock")])
    first.kill()
    first.wait()
    await second.open()
    with pytest.raises(UnsafeStart, match="another worker"):
        await a_bus(log).open()
    await second.close(1.0)


async def test_a_killed_worker_loses_nothing_and_begins_again_at_the_saved_position(
    log: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    total, effects = 6000, log.with_name("effects")
    bodies = [b"%06d" % number for number in range(total)]
    await a_bus(log).publish([Message(body) for body in bodies])
    effects.touch()
    lives, before, began = 0, 0, time.monotonic()
    while len(done(effects)) < total:
        assert time.monotonic() - began < 60
        position, count = saved(log), len(lines(effects))
        assert position >= before, "a saved position went back"
        assert done(effects) >= set(bodies[: position // 7]), "the saved position passed an unfinished event"
        started.append(worker := start(WORKER, log, effects))
        assert ready(worker)
        await asyncio.sleep(random.uniform(0.2, 2.0) if lives else 0.4)  # the first one ends before its first save
        worker.kill()
        worker.wait()
        new = lines(effects)[count:]
        assert min(new, default=bodies[-1]) >= bodies[min(position // 7, total - 1)], "read from before the position"
        lives, before = lives + 1, position
    assert lives > 1
    assert done(effects) == set(bodies)


def lines(effects: Path) -> list[bytes]:
    return effects.read_bytes().split()


def done(effects: Path) -> set[bytes]:
    return set(lines(effects))
