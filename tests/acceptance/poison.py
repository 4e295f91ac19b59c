"""One key in a hundred always fails, for as long as wanted: what that does to the others, to memory, and to what is committed."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from investbus import Context, Event, Router
from investbus.assembly import Assembled
from investbus.config import Settings
from investbus.store import Filter
from investbus.stores import open_store
from tests.acceptance.load import Bus, Load
from tests.acceptance.served import served
from tests.whole import settings_in, until

NAME = "portfolios.status-update"
ONE_IN = 100
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


class Sample(NamedTuple):
    """Once a second. `good` are events of healthy keys that were done in that second."""

    second: float
    rss_mb: float
    gap: int  # the widest of all partitions
    backlog: int
    good: int


class Report(NamedTuple):
    """What was published and what became of it. The poison begins with sample number `poisoned_at`."""

    published: int
    good: int  # published, of healthy keys
    done: int  # of these
    dead: int
    dead_good: int  # dead letters of healthy keys
    poisoned_at: int
    samples: list[Sample]

    def rate(self, poisoned: bool) -> float:
        """Events of healthy keys done per second, before the poison or with it."""
        before = self.samples[: self.poisoned_at]
        part, since = (self.samples[self.poisoned_at :], before[-1].second) if poisoned else (before, 0.0)
        return sum(one.good for one in part) / (part[-1].second - since)


class Poison:
    """`keys` portfolios in turn, at `rate` events a second."""

    def __init__(self, bus: Bus, folder: Path, *, rate: float, keys: int, **changes: Any) -> None:
        self._bus, self._rate, self._keys = bus, rate, keys
        self._settings: Settings = settings_in(folder, **bus.settings, **changes)
        self._poisoned = False
        self._good = 0

    async def run(self, calm: float, seconds: float) -> Report:
        async with served(self._settings, self._router()) as (parts, _):
            with Load(self._bus, self._rate, self._make) as load:
                await until(lambda: 0 < load.published <= parts.worker.taken + self._rate / 5, 60.0)
                samples = await self._sample(parts, calm)
                poisoned_at, self._poisoned = len(samples), True
                samples += await self._sample(parts, seconds, samples[-1].second)
                self._poisoned = False  # without healthy events beside them, the last to die would count as a flood
            await until(lambda: parts.worker.taken >= load.published and parts.worker.idle, 600.0)
        store = open_store(str(self._settings.store.url))
        await store.open()
        keys = [letter.key async for letter in store.export_dead(Filter())]
        await store.close()
        bad = sum(_bad(number % self._keys) for number in range(load.published))
        return Report(
            published=load.published,
            good=load.published - bad,
            done=self._good,
            dead=len(keys),
            dead_good=sum(not key.endswith("-bad") for key in keys),
            poisoned_at=poisoned_at,
            samples=samples,
        )

    def _make(self, number: int) -> tuple[str, str]:
        key = number % self._keys
        return NAME, f"P{key}-bad" if _bad(key) else f"P{key}"

    def _router(self) -> Router:
        router = Router()

        @router.on(NAME)
        async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
            if event.key.endswith("-bad"):
                if self._poisoned:
                    raise ValueError("this portfolio always fails")
            else:
                self._good += 1

        return router

    async def _sample(self, parts: Assembled, seconds: float, after: float = 0.0) -> list[Sample]:
        samples: list[Sample] = []
        began, good = time.monotonic(), self._good
        while time.monotonic() - began < seconds:
            await asyncio.sleep(1.0 - (time.monotonic() - began) % 1.0)
            look = parts.console.look()
            gap = max((one.gap for one in look.transport.partitions.values()), default=0)
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            backlog = look.in_flight + look.backlog_events
            samples.append(Sample(after + time.monotonic() - began, pages * PAGE_MB, gap, backlog, self._good - good))
            good = self._good
        return samples


def _bad(key: int) -> bool:
    return key % ONE_IN == 0
