"""What the consumers of all buses share: the model, the meter, and the worker that is measured.

A module of cases runs as `python -m tests.bench.BUS_cases CASE PLACE EVENTS`, with the bus's address on standard input, and
prints one JSON line. CPU is user and system time of the process from before the connection to after its end, without imports;
the rate is taken from the first event that is handled to the last, since connecting and leaving take seconds on some buses.
"""

import asyncio
import gc
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

Consume = Callable[[str, str, "Meter"], Coroutine[Any, Any, None]]  # of an address and a place on that bus


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


async def nothing(event: Envelope) -> None:
    """The handler of the bare loops."""


class Meter:
    """CPU time from `begin` to `end`, and the time in which `count` came to the number of events."""

    def __init__(self, events: int) -> None:
        self.events = events
        self.handled = 0
        self.over = asyncio.Event()

    def begin(self) -> None:
        gc.collect()
        self._cpu = _cpu()

    def count(self, more: int = 1) -> None:
        if not self.handled:
            self._first = time.perf_counter()
        self.handled += more
        if self.handled >= self.events:
            self._last = time.perf_counter()
            self.over.set()

    def end(self) -> None:
        cpu = _cpu() - self._cpu
        assert self.handled >= self.events  # more where a topic has more, and the consumer takes what comes
        lines = Path("/proc/self/status").read_text().splitlines()  # ru_maxrss would show the parent's, from before the exec
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
        rate = self.handled / (self._last - self._first)
        print(json.dumps({"cpu": cpu / self.handled * 1e6, "rate": rate, "peak_mb": peak}), flush=True)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def worker(bus: Mapping[str, Any], meter: Meter, *, dedup: bool) -> None:
    """The whole of investbus: typed handler, SQLite store, and its done table if `dedup`. `bus`: its part of the settings."""
    from investbus import Context, Event, Router, process
    from investbus.assembly import assembled, make_store, make_transport
    from investbus.config import Settings
    from investbus.router import RouteTable

    router = Router()

    @router.on("portfolios.status-update")
    async def handler(event: Event[Status], ctx: Context) -> None:
        meter.count()

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(**bus, store={"url": f"sqlite:///{Path(folder) / 'state.db'}", "dedup": dedup})
        async with assembled(settings, RouteTable(list(router.found())), make_transport(settings), make_store(settings)) as parts:
            process.freeze()
            meter.begin()
            clean = await parts.worker.run(max_events=meter.events)
            assert clean
            meter.end()


def main(cases: Mapping[str, Consume]) -> None:
    case, place, events = sys.argv[1:]
    asyncio.run(cases[case](sys.stdin.read().strip(), place, Meter(int(events))))
