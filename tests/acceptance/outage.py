"""An outage of the platform under load on a real bus: what it costs, and how the worker comes back.

Half of the events ask the platform, half do not. Times are those of the wall clock, since the platform notes its calls by it.
"""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

from investbus import Context, Event, Router
from investbus.sandbox import Platform, World
from tests.acceptance.load import Bus, Load
from tests.acceptance.served import api_of, served
from tests.whole import letters, settings_in, until

ASKS, OTHER = "portfolios.status-update", "portfolios.cash-available-for-withdrawal"
UNDER_WAY = 2.0  # seconds in which calls from before the gate closed have ended, the client's own tries included
TRIES = 3  # of the client for one call
LOOK = 0.01


class Ended(NamedTuple):
    sent: float
    at: float


class Report(NamedTuple):
    """What an outage did. Moments are seconds after what is named."""

    published: int
    done: int
    dead: int
    attempts: int  # the highest that any handler saw
    closed_after: float  # the outage began
    closed_for: float  # until the platform was back
    probes: int  # in that time
    requests: int  # at the platform, from UNDER_WAY after the gate closed until the platform was back
    others_in_outage: int  # of the route that asks nobody
    p95_before: float
    p95_in_outage: float
    opened_after: float  # the platform was back
    wide_after: float  # the gate opened
    caught_up_after: float  # the gate opened


class Outage:
    """One run: `calm` seconds of load, `seconds` of outage, and the time after it until everything is done."""

    def __init__(self, bus: Bus, folder: Path, *, rate: float, probe_every: float, seed: int = 5) -> None:
        self._bus, self._folder, self._rate, self._probe_every = bus, folder, rate, probe_every
        self._world = World(seed, portfolios=400)
        self._starts: list[float] = []
        self._attempts = 0
        self._ended: dict[str, list[Ended]] = {ASKS: [], OTHER: []}

    async def run(self, calm: float, seconds: float) -> Report:
        keys = list(self._world.portfolios)

        def make(number: int) -> tuple[str, str]:
            return (OTHER, f"other-{number % 400}") if number % 2 else (ASKS, keys[number // 2 % len(keys)])

        async with Platform(self._world, calls_kept=200_000) as platform:
            settings = settings_in(
                self._folder,
                **self._bus.settings,
                api=api_of(platform),
                gate={"failures": 3, "probe_every": self._probe_every},
            )
            async with served(settings, self._router()) as (parts, _):
                gate = parts.gatehouse.gates["api"]
                with Load(self._bus, 2 * self._rate, make) as load:
                    await until(lambda: bool(self._ended[ASKS] and self._ended[OTHER]), 60.0)
                    began = time.time()
                    await asyncio.sleep(calm)
                    platform.faults.down = True
                    down = time.time()
                    closed = await self._when(lambda: gate.closed)
                    await asyncio.sleep(max(0.0, down + seconds - time.time()))
                    assert gate.closed
                    platform.faults.down = False
                    up = time.time()
                    opened = await self._when(lambda: not gate.closed)
                    wide = await self._when(lambda: not gate.narrow)
                    caught_up = await self._when(lambda: self._last_sent(ASKS) > wide - 0.1)
                    await asyncio.sleep(1.0)
                await until(lambda: self._done >= load.published and parts.worker.idle, 60.0)
            calls = [call.started for call in platform.calls.recent]
        return Report(
            published=load.published,
            done=self._done,
            dead=len(await letters(settings)),
            attempts=self._attempts,
            closed_after=closed - down,
            closed_for=up - closed,
            probes=sum(closed < at < up for at in self._starts),
            requests=sum(closed + UNDER_WAY < at < up for at in calls),
            others_in_outage=sum(closed < one.sent and one.at < up for one in self._ended[OTHER]),
            p95_before=self._p95(began, down),
            p95_in_outage=self._p95(closed, up),
            opened_after=opened - up,
            wide_after=wide - opened,
            caught_up_after=caught_up - opened,
        )

    def _router(self) -> Router:
        router = Router()

        @router.on(ASKS)
        async def asks(event: Event[dict[str, Any]], ctx: Context) -> None:
            self._starts.append(time.time())
            self._attempts = max(self._attempts, ctx.attempt)
            await ctx.api.portfolio(event.key)
            self._ended[ASKS].append(Ended(float(event.data["sent"]), time.time()))

        @router.on(OTHER, needs=())
        async def other(event: Event[dict[str, Any]], ctx: Context) -> None:
            self._ended[OTHER].append(Ended(float(event.data["sent"]), time.time()))

        return router

    @property
    def _done(self) -> int:
        return sum(map(len, self._ended.values()))

    def _last_sent(self, name: str) -> float:
        return max((one.sent for one in self._ended[name][-50:]), default=0.0)

    def _p95(self, since: float, until: float) -> float:
        """Seconds from the publication to the end, of events of the other route that were sent in this time."""
        ages = [one.at - one.sent for one in self._ended[OTHER] if since <= one.sent < until]
        return statistics.quantiles(ages, n=20)[-1]

    async def _when(self, holds: Any) -> float:
        async with asyncio.timeout(120.0):
            while not holds():
                await asyncio.sleep(LOOK)
        return time.time()
