"""The bus of the `bus` fixture: a whole worker on the memory transport, in virtual time."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from itertools import count
from typing import Any

import msgspec

from investbus.ambient import Ambient
from investbus.assembly import Assembled, assembled
from investbus.config import Settings
from investbus.config_bus import Memory as MemorySettings
from investbus.config_load import settings_of
from investbus.outcome import Ending
from investbus.router import Router, RouteTable
from investbus.store import DeadLetter
from investbus.stores.memory import MemoryStore
from investbus.testing import STARTED_AT
from investbus.testing.platform import FakePlatform, encode
from investbus.transport import Message
from investbus.transports.memory import Memory

PATIENCE = 6 * 3600.0  # virtual seconds after which an event that has not ended is a mistake of the test
API = {"base_url": "https://platform.invalid", "access_key_id": "virtual", "secret_access_key": "virtual"}


class Result(msgspec.Struct, frozen=True):
    """How an event ended. `attempts` counts those that were spent, `waited` the seconds between runs of the handler."""

    event_id: str
    outcome: Ending
    attempts: int
    reason: str
    waited: list[float]


class _Runs(msgspec.Struct):
    attempt: int = 0
    waited: list[float] = []
    ended_at: float | None = None


class Bus:
    """What a test of handlers works with; one per test."""

    def __init__(self) -> None:
        self.api = FakePlatform()
        self._store = MemoryStore()
        self._routers: tuple[Router, ...] = ()
        self._state: Any = None
        self._settings: Mapping[str, Any] = {}
        self._transport: Memory | None = None
        self._running: asyncio.Task[bool] | None = None
        self._ready: asyncio.Future[Assembled] | None = None
        self._endings: dict[str, asyncio.Future[Ending]] = {}
        self._runs: dict[str, _Runs] = {}
        self._sent: dict[str, Message] = {}
        self._ids = count(1)

    def use(self, *routers: Router, state: Any = None, settings: Mapping[str, Any] | None = None) -> None:
        """The handlers under test. `state` is their `ctx.state`, in place of the lifespan; `settings` are keys of the
        configuration, like `{"retry": {"attempts": 2}}`."""
        if self._running is not None:
            raise AssertionError("bus.use() comes before the first event")
        self._routers, self._state, self._settings = routers, state, settings or {}

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """What died, in order."""
        return list(self._store.dead.values())

    async def send(self, name: str, data: Mapping[str, Any], *, id: str | None = None, created: datetime | None = None) -> Result:
        """Put an event on the bus and run virtual time until it has ended."""
        subject, _, action = name.partition(".")
        if not (subject and action):
            raise ValueError(f'"{name}" is no name of an event; write "subject.action", such as "portfolios.status-update"')
        event_id = id or f"event-{next(self._ids)}"
        moment = datetime.fromtimestamp(self._wall(), STARTED_AT.tzinfo) if created is None else created
        envelope = {"id": event_id, "created": moment, "version": "1.0.0", "subject": subject, "action": action, "data": data}
        self._sent[event_id] = Message(encode(envelope))
        return await self._deliver(event_id)

    async def redeliver(self, event_id: str) -> Result:
        """Put the same message on the bus once more."""
        if event_id not in self._sent:
            raise ValueError(f"nothing with the id {event_id} was sent; bus.send() returns the ids")
        return await self._deliver(event_id)

    async def lose_lease(self) -> None:
        """The bus takes back what it has handed out: what runs may finish within `drain_cap`, the rest comes again."""
        await self._started()
        assert self._transport is not None
        await self._transport.lose_lease()

    async def advance(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)

    async def stop(self) -> None:
        """End the worker; the fixture does it after the test."""
        if self._running is None or self._ready is None:
            return
        if not self._ready.done():
            self._running.cancel()
        else:
            self._ready.result().worker.stop()
        await asyncio.gather(self._running, return_exceptions=not self._ready.done())

    async def _deliver(self, event_id: str) -> Result:
        await self._started()
        assert self._transport is not None
        ending = self._endings[event_id] = asyncio.get_running_loop().create_future()
        self._runs[event_id] = _Runs()
        await self._transport.publish([self._sent[event_id]])
        await asyncio.wait((ending, self._worker_task()), timeout=PATIENCE, return_when="FIRST_COMPLETED")
        if self.api.unanswered:
            called = self.api.unanswered[0]
            raise AssertionError(f"{called} has no answer: say bus.api.{called.split()[0].lower()}(…) before bus.send()")
        if not ending.done():
            if self._worker_task().done():
                self._worker_task().result()
            raise AssertionError(f"{event_id} has not ended after {PATIENCE:.0f} s of virtual time")
        return self._result(event_id, ending.result())

    def _result(self, event_id: str, outcome: Ending) -> Result:
        runs = self._runs[event_id]
        letters = [letter for letter in self.dead_letters if letter.event_id == event_id]
        reason = letters[-1].reason if outcome == "dead" and letters else ""
        return Result(event_id, outcome, runs.attempt, reason, runs.waited)

    def _worker_task(self) -> asyncio.Task[bool]:
        assert self._running is not None
        return self._running

    async def _started(self) -> Assembled:
        if self._running is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._work())
        assert self._ready is not None
        await asyncio.wait((self._ready, self._running), return_when="FIRST_COMPLETED")
        if not self._ready.done():
            self._running.result()
        return self._ready.result()

    async def _work(self) -> bool:
        settings = self._configuration()
        table = RouteTable([found for router in self._routers for found in router.found()])
        dispatch = settings.dispatch
        self._transport = Memory(MemorySettings(), drain_cap=dispatch.drain_cap, max_gap=dispatch.max_gap)
        ambient = Ambient(asyncio.get_running_loop().time, self._wall, lambda: 0.0)
        states = dict.fromkeys((entry.found.home for entry in table.entries), self._state)
        async with assembled(
            settings, table, self._transport, self._store, wire=self.api, states=states, ambient=ambient
        ) as parts:
            parts.worker.settler.ended = parts.worker.intake.ended = self._ended
            for route in parts.worker.intake.routes.values():
                route.call = self._watched(route.call)
            assert self._ready is not None
            self._ready.set_result(parts)
            return await parts.worker.run()

    def _configuration(self) -> Settings:
        base: dict[str, Any] = {"transport": "memory", "api": API}
        return settings_of(base | dict(self._settings), "bus.use(settings=...)")

    def _watched(self, call: Any) -> Any:
        """The handler, with a note of when it ran."""

        async def run(event: Any, ctx: Any) -> None:
            runs, clock = self._runs.setdefault(event.id, _Runs()), asyncio.get_running_loop().time
            if runs.ended_at is not None:
                runs.waited.append(round(clock() - runs.ended_at, 6))
            runs.attempt = ctx.attempt
            try:
                await call(event, ctx)
            finally:
                runs.ended_at = clock()

        return run

    def _ended(self, event_id: str, ending: Ending) -> None:
        future = self._endings.get(event_id)
        if future is not None and not future.done():
            future.set_result(ending)

    def _wall(self) -> float:
        return STARTED_AT.timestamp() + asyncio.get_running_loop().time()
