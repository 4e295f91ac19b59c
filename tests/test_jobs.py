"""A worker as a job, `--until-idle` and `--max-events`: it ends when all is done, and says what it could not do."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import pytest

from investbus import Context, Event, Reject, Retry, Router
from investbus.ambient import Ambient
from investbus.assembly import Assembled, assembled
from investbus.config import Settings
from investbus.config_bus import Memory as MemorySettings
from investbus.dialects.investsuite import decode
from investbus.errors import DecodeError, StoreError, TransportDown
from investbus.event import Envelope
from investbus.mailbox import EVERYTHING, Pause
from investbus.router import RouteTable
from investbus.store import DeadLetter, Done, Identity
from investbus.stores.memory import MemoryStore
from investbus.transport import Delivery, Message, TransportState
from investbus.transports.memory import Memory
from tests.lanes import virtually
from tests.whole import check_law, envelope


class Flaky(Memory):
    """A bus that is away at first, or is lost after each delivery; it is there again when it is opened."""

    def __init__(self, *, away: int = 0, drops: bool = False) -> None:
        super().__init__(MemorySettings(), drain_cap=10.0, max_gap=20_000)
        self._away, self._drops, self._lost = away, drops, False

    async def open(self) -> None:
        self._lost = False
        if self._away:
            self._away -= 1
            raise TransportDown("no route to host")
        await super().open()

    async def receive(self, limit: int) -> list[Delivery]:
        deliveries = await super().receive(limit)
        self._lost = self._drops
        return deliveries

    def state(self) -> TransportState:
        return TransportState(False, False, "connection lost") if self._lost else super().state()


class Faulty(MemoryStore):
    """A store that is slow to look up, or cannot write for now."""

    def __init__(self, *, lookup: float = 0.0, refuses: Literal["", "done", "dead"] = "") -> None:
        super().__init__()
        self._lookup, self.refuses = lookup, refuses

    async def find_done(self, identities: Sequence[Identity], since: datetime | None = None) -> dict[Identity, bytes]:
        await asyncio.sleep(self._lookup)
        return await super().find_done(identities, since)

    async def put_done(self, done: Sequence[Done]) -> None:
        if self.refuses == "done":
            raise StoreError("database or disk is full")
        await super().put_done(done)

    async def put_dead(self, letters: Sequence[DeadLetter], done: Sequence[Done]) -> None:
        if self.refuses == "dead":
            raise StoreError("database or disk is full")
        await super().put_dead(letters, done)


class Job:
    """A bus, a store and a handler; each `worker` is a process of its own that meets what the one before has left."""

    def __init__(self, bus: Flaky | None = None, store: Faulty | None = None, *raises: Exception) -> None:
        self.bus = bus or Flaky()
        self.store = store or Faulty()
        self.ran: list[str] = []
        self._raises = list(raises)
        self._router = Router()
        self._router.on("a.b", needs=())(self._handler)

    async def _handler(self, event: Event[dict[str, Any]], ctx: Context) -> None:
        self.ran.append(event.id)
        if self._raises:
            raise self._raises.pop(0)

    async def publish(self, number: int) -> None:
        await self.bus.publish([Message(envelope("a.b", f"e{at}", data={"id": f"P{at}"})) for at in range(number)])

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Assembled]:
        clock = asyncio.get_running_loop().time
        settings = Settings(transport="memory", shutdown={"grace": 5.0})
        table = RouteTable(list(self._router.found()))
        async with assembled(settings, table, self.bus, self.store, ambient=Ambient(clock, clock, lambda: 0.0)) as parts:
            yield parts

    async def run(self, **flags: Any) -> float:
        """A worker until its job is done; how many seconds that took."""
        began = asyncio.get_running_loop().time()
        async with self.worker() as parts:
            assert await asyncio.wait_for(parts.worker.run(**flags), 10_000.0) is True
            check_law(parts)
        return asyncio.get_running_loop().time() - began

    @property
    def left(self) -> int:
        """Messages on the bus that were not acked."""
        return len(self.bus._waiting)


@pytest.mark.parametrize("flags", [{"max_events": 1}, {"until_idle": 0.4}], ids=str)
def test_a_job_does_not_end_while_the_store_is_asked(flags: dict[str, Any]) -> None:
    async def main() -> None:
        job = Job(store=Faulty(lookup=30.0))
        await job.publish(1)
        assert await job.run(**flags) >= 30.0
        assert (job.ran, job.left) == (["e0"], 0)

    virtually(main)


@pytest.mark.parametrize("flags", [{"max_events": 1}, {"until_idle": 0.4}], ids=str)
def test_a_job_waits_for_what_waits_for_its_next_attempt(flags: dict[str, Any]) -> None:
    async def main() -> None:
        job = Job(None, None, Retry(after=600.0))
        await job.publish(1)
        assert 600.0 <= await job.run(**flags) <= 602.0
        assert (job.ran, job.left) == (["e0", "e0"], 0)

    virtually(main)


def test_no_more_than_max_events_are_taken() -> None:
    async def main() -> None:
        job = Job()
        await job.publish(5)
        await job.run(max_events=3)
        assert (job.ran, job.left) == (["e0", "e1", "e2"], 2)
        await job.run(max_events=2)
        assert (len(job.ran), job.left) == (5, 0)

    virtually(main)


def test_max_events_ends_although_the_bus_is_lost_after_the_last() -> None:
    async def main() -> None:
        job = Job(Flaky(drops=True))
        await job.publish(1)
        assert await job.run(max_events=1) < 2.0
        assert (job.ran, job.left) == (["e0"], 0)

    virtually(main)


def test_a_bus_that_is_away_is_not_idle() -> None:
    async def main() -> None:
        job = Job(Flaky(away=8))
        await job.publish(1)
        await job.run(until_idle=0.5)
        assert (job.ran, job.left) == (["e0"], 0)

    virtually(main)


@pytest.mark.parametrize("queued", [False, True])
def test_a_job_does_not_wait_for_the_end_of_a_pause_and_says_that_it_was_cut_short(queued: bool) -> None:
    async def main() -> None:
        job = Job()
        await job.publish(2)
        loop = asyncio.get_running_loop()
        pause = Pause(EVERYTHING, "operator", "maintenance", "ann", datetime(2026, 11, 21, tzinfo=UTC))
        await job.store.pause(msgspec.structs.replace(pause, route="a.b") if queued else pause)
        async with job.worker() as parts:
            task, began = asyncio.create_task(parts.worker.run(until_idle=5.0)), loop.time()
            if queued:
                await asyncio.sleep(1.0)
                assert parts.worker.dispatcher.waiting == 2
                await job.store.pause(pause)
            assert await asyncio.wait_for(task, 100.0) is False
            assert loop.time() - began < 10.0
            check_law(parts)
        assert (job.ran, job.left) == ([], 2)

    virtually(main)


def test_what_was_taken_and_is_paused_is_not_finished() -> None:
    async def main() -> None:
        job = Job()
        await job.publish(2)
        pause = Pause(EVERYTHING, "operator", "maintenance", "ann", datetime(2026, 11, 21, tzinfo=UTC))
        await job.store.pause(msgspec.structs.replace(pause, route="a.b"))
        async with job.worker() as parts:
            task = asyncio.create_task(parts.worker.run(max_events=2))
            await asyncio.sleep(1.0)
            assert parts.worker.dispatcher.waiting == 2
            await job.store.pause(pause)
            await asyncio.sleep(60.0)
            assert not task.done()
            job.store.paused.clear()
            assert await asyncio.wait_for(task, 10.0) is True
        assert (job.ran, job.left) == (["e0", "e1"], 0)

    virtually(main)


def test_letters_that_could_not_be_stored_when_grace_ended_come_again() -> None:
    async def main() -> None:
        job = Job(None, Faulty(refuses="dead"), Reject("no"), Reject("no"))
        await job.publish(1)
        async with job.worker() as parts:
            task = asyncio.create_task(parts.worker.run())
            await asyncio.sleep(3.0)
            assert parts.console.readiness()["store"] == "database or disk is full"
            assert "store" in parts.console.paused()
            parts.worker.stop()
            assert await task is False, "something was left undone"
        assert (job.ran, job.left, len(job.store.dead)) == (["e0"], 1, 0)
        job.store.refuses = ""
        await job.run(until_idle=0.5)
        assert (job.ran, job.left, len(job.store.dead)) == (["e0", "e0"], 0, 1)

    virtually(main)


def test_done_records_that_cannot_be_written_show_in_readiness_and_hold_back_no_ack() -> None:
    async def main() -> None:
        job = Job(None, Faulty(refuses="done"))
        await job.publish(1)
        async with job.worker() as parts:
            task = asyncio.create_task(parts.worker.run())
            await asyncio.sleep(1.0)
            assert parts.console.readiness()["store"] == "database or disk is full"
            assert job.bus.counts.ok == 1
            job.store.refuses = ""
            await job.publish(1)
            await asyncio.sleep(1.0)
            assert parts.console.readiness()["store"] == ""
            parts.worker.stop()
            assert await task is True
        assert job.left == 0

    virtually(main)


def test_one_done_record_that_could_not_be_written_is_no_reason_to_be_unready_all_night() -> None:
    async def main() -> None:
        job = Job(None, Faulty(refuses="done"))
        await job.publish(1)
        async with job.worker() as parts:
            task = asyncio.create_task(parts.worker.run())
            await asyncio.sleep(10.0)
            assert parts.console.readiness()["store"] == "database or disk is full"
            job.store.refuses = ""
            await asyncio.sleep(60.0)  # and no event that would show it
            assert parts.console.readiness()["store"] == ""
            parts.worker.stop()
            assert await task is True

    virtually(main)


def test_a_message_that_holds_no_events_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_events(body: bytes, headers: object) -> list[Envelope]:
        return []

    monkeypatch.setattr("investbus.assembly.load_dialect", lambda name: no_events)

    async def main() -> None:
        job = Job()
        await job.publish(3)
        async with job.worker() as parts:
            assert await parts.worker.run(max_events=3) is True
            unknown = parts.worker.metrics.routes["unknown"]
            assert (unknown.received, unknown.outcomes["ignored"]) == (3, 3)
            check_law(parts)
        assert (job.ran, job.left) == ([], 0)

    virtually(main)


@pytest.mark.parametrize("error", [KeyError("account"), DecodeError("checksum", "account"), RecursionError()], ids=repr)
def test_a_dialect_that_fails_in_its_own_way_costs_that_message(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """It may be somebody else's, and what it cannot read would otherwise end every process that comes by."""

    def fails(body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        if b"e1" in body:
            raise error
        return decode(body, headers)

    monkeypatch.setattr("investbus.assembly.load_dialect", lambda name: fails)

    async def main() -> None:
        job = Job()
        await job.publish(3)
        async with job.worker() as parts:
            assert await parts.worker.run(max_events=3) is True
            assert parts.worker.metrics.undecodable["envelope"] == 1
            check_law(parts)
        assert (job.ran, job.left) == (["e0", "e2"], 0)
        (letter,) = job.store.dead.values()
        assert (letter.reason, letter.body) == ("undecodable", envelope("a.b", "e1", data={"id": "P1"}))

    virtually(main)
