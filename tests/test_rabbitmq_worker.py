"""A whole worker on a real RabbitMQ, through what a broker does to it: each time it goes on by itself, and nothing is lost."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from investbus import Context, Event, Router
from investbus.assembly import Assembled
from investbus.config import Api, GateSettings, Settings
from investbus.platform.wire import Answer, NoAnswer
from tests.brokers.rabbitmq import RabbitMq
from tests.brokers.rabbitmq_settings import Options
from tests.whole import at_rest, check_law, envelope, letters, running, settings_in, until

pytestmark = pytest.mark.broker
DLX = {"x-dead-letter-exchange": "x.dlx", "x-delivery-limit": 50}


class DownPlatform:
    """A platform that does not answer, until it does."""

    def __init__(self) -> None:
        self.down = True

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        if self.down:
            raise NoAnswer("connection refused")
        return Answer(200, {}, b'{"access_token": "t", "expires_in": "300", "id": "P"}')

    async def close(self) -> None:
        """Nothing to close."""


class Bank:
    """A handler that notes what it ran, and how often the broker had delivered that."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.done: Counter[str] = Counter()
        self.router = Router()
        self.router.on("portfolios.status-update", timeout=60.0, needs=())(self._handler)

    async def _handler(self, event: Event[dict[str, Any]], ctx: Context) -> None:
        await asyncio.sleep(self.seconds)
        self.done[event.id] += 1

    def all_done(self, count: int) -> Callable[[], bool]:
        return lambda: len(self.done) >= count


def chosen(broker: RabbitMq, queue: str, folder: Path, **rabbitmq: Any) -> Settings:
    section = {"url": broker.url, "queue": queue, "heartbeat": 2.0, **rabbitmq}
    return settings_in(folder, transport="rabbitmq", rabbitmq=section, shutdown={"grace": 30.0})


def events(count: int, start: int = 0) -> list[bytes]:
    return [envelope(event_id=f"e{n}", data={"id": f"P{n % 50}"}) for n in range(start, start + count)]


def counted(parts: Assembled) -> list[int]:
    """What the broker says of each delivery, from now on."""
    counts: list[int] = []
    real = parts.worker.transport.receive

    async def receive(limit: int) -> Any:
        deliveries = await real(limit)
        counts.extend(delivery.count for delivery in deliveries)
        return deliveries

    parts.worker.transport.receive = receive  # type: ignore[method-assign]
    return counts


def new_queue(broker: RabbitMq) -> str:
    name = f"q-{uuid.uuid4().hex[:8]}"
    broker.declare_queue(name, arguments=DLX)
    return name


async def test_every_event_ends_once_and_the_law_holds(rabbitmq: RabbitMq, queue: str, tmp_path: Path) -> None:
    bank = Bank()
    rabbitmq.publish(queue, [*events(300), b"broken", b"", events(1)[0]])
    async with running(chosen(rabbitmq, queue, tmp_path), bank.router) as parts:
        await until(at_rest(parts, 303), 60.0)
        check_law(parts)
        counts = parts.worker.metrics.routes["portfolios.status-update"]
        assert counts.outcomes == {"done": 300, "dead": 0, "ignored": 0, "duplicate": 1, "released": 0}
        await until(lambda: parts.worker.transport.counts.ok == 303)
    assert set(bank.done.values()) == {1}
    assert [letter.reason for letter in await letters(parts.worker.settings)] == ["undecodable"]
    assert rabbitmq.depth(queue) == (0, 0)


async def test_a_killed_broker_and_a_deleted_queue_are_survived_under_load(own_rabbitmq: RabbitMq, tmp_path: Path) -> None:
    bank = Bank(seconds=0.02)
    queue = new_queue(own_rabbitmq)
    own_rabbitmq.publish(queue, events(600))
    async with running(chosen(own_rabbitmq, queue, tmp_path), bank.router) as parts:
        await until(bank.all_done(100), 60.0)
        await asyncio.to_thread(own_rabbitmq.kill)
        await until(lambda: bool(parts.console.readiness()["transport"]))
        own_rabbitmq.start()
        await until(bank.all_done(600), 90.0)
        await until(lambda: not any(parts.console.readiness().values()), 30.0)
        await until(lambda: own_rabbitmq.ready(queue) == 0 and parts.worker.idle, 30.0)
        own_rabbitmq.delete_queue(queue)
        await until(lambda: bool(parts.console.readiness()["transport"]), 30.0)
        own_rabbitmq.declare_queue(queue, arguments=DLX)
        own_rabbitmq.publish(queue, events(50, start=1000))
        await until(bank.all_done(650), 60.0)
        check_law(parts)
    assert max(bank.done.values()) == 1, "what came again was recognised"


async def test_handlers_that_outlast_the_consumer_timeout_run_once(
    rabbitmq_with: Callable[[Options], RabbitMq], tmp_path: Path
) -> None:
    """12 s of patience, 20 s of work: the broker closes the channel, and what ran to its end is known when it comes again."""
    broker = rabbitmq_with(Options(consumer_timeout=12.0))
    bank = Bank(seconds=20.0)
    queue = new_queue(broker)
    broker.publish(queue, events(20))
    async with running(chosen(broker, queue, tmp_path), bank.router) as parts:
        counts = counted(parts)
        await until(bank.all_done(20), 90.0)
        await until(lambda: broker.ready(queue) == 0 and parts.worker.idle, 60.0)
        check_law(parts)
        assert parts.worker.transport.counts.leases_lost >= 1
    assert set(bank.done.values()) == {1}
    assert max(counts) <= 3


async def test_a_memory_alarm_stops_nobody_who_consumes(own_rabbitmq: RabbitMq, tmp_path: Path) -> None:
    bank = Bank(seconds=0.01)
    queue = new_queue(own_rabbitmq)
    own_rabbitmq.publish(queue, events(200))
    await asyncio.to_thread(own_rabbitmq.set_memory_alarm, True)
    try:
        async with running(chosen(own_rabbitmq, queue, tmp_path), bank.router) as parts:
            await until(at_rest(parts, 200), 60.0)
            await until(lambda: parts.worker.transport.counts.ok == 200)
    finally:
        await asyncio.to_thread(own_rabbitmq.set_memory_alarm, False)
    assert len(bank.done) == 200


async def test_an_outage_longer_than_hold_max_costs_each_event_one_more_delivery(
    rabbitmq: RabbitMq, queue: str, tmp_path: Path
) -> None:
    """Forty minutes against fifteen, scaled by 300: 8 s without the platform, hold_max 3 s, prefetch large enough for all."""
    router, done, wire = Router(), Counter[str](), DownPlatform()

    @router.on("portfolios.status-update")
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        await ctx.detail()
        done[event.id] += 1

    rabbitmq.publish(queue, events(100))
    api = {"base_url": "https://platform.invalid", "access_key_id": "a", "secret_access_key": "b", "timeout": 1.0}
    settings = chosen(rabbitmq, queue, tmp_path, hold_max=3.0).model_copy(
        update={"api": Api.model_validate(api), "gate": GateSettings(probe_every=0.3)}
    )
    async with running(settings, router, wire=wire) as parts:
        counts = counted(parts)
        await until(lambda: parts.console.paused() == {"hold"}, 30.0)
        await asyncio.sleep(5.0)
        assert parts.worker.dispatcher.backlog.unfinished == 0
        assert parts.console.paused() == {"hold"}
        assert done == {}
        wire.down = False
        await until(lambda: len(done) == 100 and parts.worker.idle, 60.0)
        check_law(parts)
    assert max(counts) == 2, "once more than without the outage"
    assert set(done.values()) == {1}
    assert await letters(settings) == []
