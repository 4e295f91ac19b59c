"""An outage of the platform under load on a real bus: what it costs, and how the worker comes back.

Half of the events ask the platform, half do not. Times are those of the wall clock, since the platform notes its calls by it.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from investbus import Context, Event, Router
from investbus.gate import Gate
from investbus.sandbox import Platform, World
from tests.acceptance.load import Bus, Load
from tests.acceptance.served import api_of, served
from tests.whole import letters, settings_in, until

ASKS, OTHER = "portfolios.status-update", "portfolios.cash-available-for-withdrawal"
UNDER_WAY = 2.0  # seconds in which calls from before the gate closed have ended, the client's own tries included
TRIES = 3  # of the client for one call
LOOK = 0.01
KEYS = 400


class Ended(NamedTuple):
    sent: float
    at: float


class Moments(NamedTuple):
    """When each thing happened, in this order but for the last two."""

    began: float
    down: float
    closed: float
    up: float
    opened: float
    wide: float
    caught_up: float


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
    caught_up_after: float  # the gate opened: all that had waited is done


class Outage:
    """One run: `calm` seconds of load, `seconds` of outage, and the time after it until everything is done."""

    def __init__(self, bus: Bus, folder: Path, *, rate: float, probe_every: float, seed: int = 5) -> None:
        self._bus, self._folder, self._rate, self._probe_every = bus, folder, rate, probe_every
        self._world = World(seed, portfolios=KEYS)
        self._keys = list(self._world.portfolios)
        self._starts: list[float] = []
        self._attempts = 0
        self._ended: dict[str, list[Ended]] = {ASKS: [], OTHER: []}

    async def run(self, calm: float, seconds: float) -> Report:
        async with Platform(self._world, calls_kept=200_000) as platform:
            gate = {"failures": 3, "probe_every": self._probe_every}
            settings = settings_in(self._folder, **self._bus.settings, api=api_of(platform), gate=gate)
            async with served(settings, self._router()) as (parts, _):
                with Load(self._bus, 2 * self._rate, self._make) as load:
                    await until(lambda: 0 < load.published <= parts.worker.taken + self._rate / 5, 60.0)
                    moments = await self._suffer(parts.gatehouse.gates["api"], platform, load, calm, seconds)
                    await asyncio.sleep(1.0)
                await until(lambda: self._done >= load.published and parts.worker.idle, 60.0)
            calls = [call.started for call in platform.calls.recent]
        return self._report(moments, load.published, len(await letters(settings)), calls)

    async def _suffer(self, gate: Gate, platform: Platform, load: Load, calm: float, seconds: float) -> Moments:
        began = time.time()
        await asyncio.sleep(calm)
        platform.faults.down = True
        down = time.time()
        (closed,) = await self._moments(lambda: gate.closed)
        await asyncio.sleep(max(0.0, down + seconds - time.time()))
        assert gate.closed
        waiting = load.published // 2
        platform.faults.down = False
        up = time.time()
        after = await self._moments(lambda: not gate.closed, lambda: not gate.narrow, lambda: self._older(up) >= waiting)
        return Moments(began, down, closed, up, *after)

    def _report(self, at: Moments, published: int, dead: int, calls: list[float]) -> Report:
        return Report(
            published=published,
            done=self._done,
            dead=dead,
            attempts=self._attempts,
            closed_after=at.closed - at.down,
            closed_for=at.up - at.closed,
            probes=sum(at.closed < start < at.up for start in self._starts),
            requests=sum(at.closed + UNDER_WAY < call < at.up for call in calls),
            others_in_outage=sum(at.closed < one.sent and one.at < at.up for one in self._ended[OTHER]),
            p95_before=self._p95(at.began, at.down),
            p95_in_outage=self._p95(at.closed, at.up),
            opened_after=at.opened - at.up,
            wide_after=at.wide - at.opened,
            caught_up_after=at.caught_up - at.opened,
        )

    def _make(self, number: int) -> tuple[str, str]:
        """Name and key of an event; those of the two routes never share a lane."""
        return (OTHER, f"other-{number % KEYS}") if number % 2 else (ASKS, self._keys[number // 2 % KEYS])

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

    def _older(self, than: float) -> int:
        """How many events that ask the platform are done of those that were sent before."""
        return sum(one.sent < than for one in self._ended[ASKS])

    def _p95(self, since: float, until: float) -> float:
        """Seconds from the publication to the end, of events of the other route that were sent in this time."""
        ages = [one.at - one.sent for one in self._ended[OTHER] if since <= one.sent < until]
        return statistics.quantiles(ages, n=20)[-1]

    async def _moments(self, *conditions: Callable[[], bool]) -> list[float]:
        """When each of them was seen to hold first."""
        seen: dict[int, float] = {}
        async with asyncio.timeout(120.0):
            while len(seen) < len(conditions):
                for at, holds in enumerate(conditions):
                    if at not in seen and holds():
                        seen[at] = time.time()
                await asyncio.sleep(LOOK)
        return [seen[at] for at in range(len(conditions))]
