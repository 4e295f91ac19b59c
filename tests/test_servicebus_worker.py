"""A whole worker on the emulator of Azure Service Bus: locks that have to last, locks that are lost, a gate that stays closed."""

import asyncio
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from investbus import Context, Event, Router, Unavailable
from investbus.config import Settings
from tests.brokers.servicebus.lab import ServiceBus
from tests.brokers.servicebus.orders import Put
from tests.whole import at_rest, check_law, envelope, letters, running, settings_in, until

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("careless_sdk"), pytest.mark.filterwarnings("ignore::ResourceWarning")]
LOCK = 2.0  # seconds


class Bank:
    """A handler that notes what it ran."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.down = False
        self.begun: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.router = Router()
        self.router.on("portfolios.status-update", timeout=60.0, needs=("core",))(self._handler)

    async def _handler(self, event: Event[dict[str, Any]], ctx: Context) -> None:
        self.begun[event.id] += 1
        if self.down:
            raise Unavailable("core")
        await asyncio.sleep(self.seconds)
        self.done[event.id] += 1


def chosen(namespace: ServiceBus, queue: str, folder: Path, **more: Any) -> Settings:
    section = {"connection_string": namespace.connection_string, "queue": queue}
    return settings_in(folder, transport="servicebus", servicebus=section, gate={"probe_every": 0.5}, **more)


def filled(namespace: ServiceBus, count: int) -> str:
    """A new queue with so many events."""
    name = f"q-{uuid.uuid4().hex[:8]}"
    namespace.create_queue(name, lock=LOCK)
    namespace.send(name, [Put(envelope(event_id=f"e{n}", data={"id": f"P{n}"})) for n in range(count)])
    return name


async def test_a_handler_of_three_lock_durations_completes_once(own_servicebus: ServiceBus, tmp_path: Path) -> None:
    bank, queue = Bank(seconds=3 * LOCK), filled(own_servicebus, 10)
    async with running(chosen(own_servicebus, queue, tmp_path), bank.router) as parts:
        await until(at_rest(parts, 10), 40.0)
        await until(lambda: parts.worker.transport.counts.ok == 10)
        check_law(parts)
        assert parts.worker.transport.counts.leases_lost == 0
    assert set(bank.begun.values()) == {1}
    left = own_servicebus.contents(queue)
    assert (left.active, left.locked, left.dead) == ([], [], [])


async def test_a_lock_that_is_lost_under_its_handler_settles_nothing_and_the_copy_is_known(
    own_servicebus: ServiceBus, tmp_path: Path
) -> None:
    bank, queue = Bank(seconds=3.0), filled(own_servicebus, 5)
    async with running(chosen(own_servicebus, queue, tmp_path), bank.router) as parts:
        await until(lambda: len(bank.begun) == 5, 30.0)
        assert await asyncio.to_thread(own_servicebus.expire_locks, queue) == 5
        await until(lambda: len(bank.done) == 5, 30.0)
        await until(lambda: not own_servicebus.contents(queue).active + own_servicebus.contents(queue).locked, 30.0)
        await until(lambda: parts.worker.idle)
        counts = parts.worker.metrics.routes["portfolios.status-update"]
        assert (counts.outcomes["released"], counts.outcomes["duplicate"]) == (5, 5)
        await until(lambda: parts.worker.transport.counts.ok == 5)
        check_law(parts)
    assert set(bank.done.values()) == {1}


async def test_the_delivery_count_does_not_grow_while_a_gate_is_closed(own_servicebus: ServiceBus, tmp_path: Path) -> None:
    bank, queue = Bank(), filled(own_servicebus, 20)
    bank.down = True
    async with running(chosen(own_servicebus, queue, tmp_path), bank.router) as parts:
        await until(lambda: parts.console.look().gates[0].closed, 30.0)
        await asyncio.sleep(4 * LOCK)
        held = own_servicebus.contents(queue)
        assert [copy.count for copy in held.locked] == [0] * 20
        assert held.active == held.dead == []
        bank.down = False
        await until(lambda: len(bank.done) == 20 and parts.worker.idle, 30.0)
        await until(lambda: parts.worker.transport.counts.ok == 20)
        check_law(parts)
    assert await letters(parts.worker.settings) == []
