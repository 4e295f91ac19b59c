"""One consumer on a preloaded topic, in a process of its own; prints its CPU time per event as one JSON line.

`python -m tests.bench.kafka_cases CASE BOOTSTRAP TOPIC EVENTS`. CPU is user and system time of the process from before the
connection to after the last commit, without imports.
"""

import asyncio
import gc
import json
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel


class Status(BaseModel):
    id: str
    value: str
    owned_by_user_id: str
    owned_by_external_user_id: str
    external_id: str


class Envelope(BaseModel):
    id: str
    created: datetime
    version: str
    subject: str
    action: str
    data: Status


class Meter:
    """CPU and wall time from `begin` to `end`."""

    def __init__(self) -> None:
        self.handled = 0

    def begin(self) -> None:
        gc.collect()
        self._cpu, self._wall = _cpu(), time.perf_counter()

    def end(self) -> None:
        cpu, wall = _cpu() - self._cpu, time.perf_counter() - self._wall
        lines = Path("/proc/self/status").read_text().splitlines()  # ru_maxrss would show the parent's, from before the exec
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
        row = {"us": cpu / self.handled * 1e6, "rate": self.handled / wall, "peak_mb": peak, "events": self.handled}
        print(json.dumps(row), flush=True)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _nothing(event: Any) -> None:
    """The handler of the bare loop."""


async def bare(bootstrap: str, topic: str, events: int) -> None:
    """getmany, decode whole by pydantic, await the handler, commit once a second."""
    from aiokafka import AIOKafkaConsumer

    meter, decode, done, last = Meter(), Envelope.model_validate_json, {}, 0.0
    meter.begin()
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=_group(), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    while meter.handled < events:
        for partition, records in (await consumer.getmany(timeout_ms=1000, max_records=500)).items():
            for record in records:
                await _nothing(decode(record.value))
            meter.handled += len(records)
            done[partition] = records[-1].offset + 1
        if done and time.monotonic() - last >= 1.0:
            await consumer.commit(done)
            done, last = {}, time.monotonic()
    if done:
        await consumer.commit(done)
    meter.end()
    await consumer.stop()


async def investbus(bootstrap: str, topic: str, events: int, *, dedup: bool) -> None:
    """The whole worker: typed handler, SQLite store, and its done table if `dedup`."""
    from investbus import Context, Event, Router, process
    from investbus.assembly import assembled, make_store, make_transport
    from investbus.config import Settings
    from investbus.router import RouteTable

    router, meter = Router(), Meter()

    @router.on("portfolios.status-update")
    async def handler(event: Event[Status], ctx: Context) -> None:
        meter.handled += 1

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            transport="kafka",
            kafka={"bootstrap_servers": [bootstrap], "topic": topic, "group": _group()},
            store={"url": f"sqlite:///{Path(folder) / 'state.db'}", "dedup": dedup},
        )
        async with assembled(settings, RouteTable(list(router.found())), make_transport(settings), make_store(settings)) as parts:
            process.freeze()
            meter.begin()
            clean = await parts.worker.run(max_events=events)
            assert clean
            assert meter.handled == events, meter.handled
            meter.end()


async def faststream(bootstrap: str, topic: str, events: int, *, batch: bool, ack: str) -> None:
    """FastStream without its logger, a pydantic model as the handler's argument."""
    from faststream import AckPolicy
    from faststream.kafka import KafkaBroker

    broker, meter, done = KafkaBroker(bootstrap, logger=None), Meter(), asyncio.Event()
    options: dict[str, Any] = {"group_id": _group(), "auto_offset_reset": "earliest", "ack_policy": AckPolicy[ack]}

    async def one(event: Envelope) -> None:
        meter.handled += 1
        if meter.handled >= events:
            done.set()

    async def many(got: list[Envelope]) -> None:
        meter.handled += len(got)
        if meter.handled >= events:
            done.set()

    if batch:
        broker.subscriber(topic, batch=True, max_records=500, **options)(many)
    else:
        broker.subscriber(topic, **options)(one)
    meter.begin()
    await broker.start()
    await done.wait()
    meter.end()
    await broker.stop()


def _group() -> str:
    return f"bench-{uuid.uuid4().hex[:12]}"


CASES: dict[str, Callable[[str, str, int], Coroutine[Any, Any, None]]] = {
    "bare": bare,
    "investbus": lambda *given: investbus(*given, dedup=False),
    "investbus-dedup": lambda *given: investbus(*given, dedup=True),
    "faststream-safe": lambda *given: faststream(*given, batch=False, ack="NACK_ON_ERROR"),
    "faststream-default": lambda *given: faststream(*given, batch=False, ack="ACK_FIRST"),
    "faststream-batch": lambda *given: faststream(*given, batch=True, ack="NACK_ON_ERROR"),
}

if __name__ == "__main__":
    asyncio.run(CASES[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4])))
