"""The same event in two replicas at once, over one PostgreSQL: its effect is there once, or was asked for twice under one key."""

import uuid
from collections import Counter
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from investbus import Context, Event, Router
from investbus.assembly import Assembled
from investbus.sandbox import Fault, Platform, World
from tests.acceptance.served import api_of, on_kafka, served
from tests.brokers.kafka import Kafka
from tests.brokers.postgresql import PostgreSql
from tests.whole import check_law, envelope, letters, until

pytestmark = pytest.mark.broker
NAME = "portfolios.status-update"
EVENTS = 20


def depositing(runs: Counter[str]) -> Router:
    router = Router()

    @router.on(NAME)
    async def deposit(event: Event[dict[str, Any]], ctx: Context) -> None:
        runs[event.id] += 1
        await ctx.api.deposit(portfolio=event.key, amount=Decimal(5), currency="EUR", idempotency_key=ctx.idempotency_key())

    return router


async def test_an_event_that_two_replicas_get_at_once_has_its_effect_once_and_is_never_lost(
    kafka: Kafka, postgresql: PostgreSql, tmp_path: Path
) -> None:
    topic, runs, world = f"twice-{uuid.uuid4().hex[:12]}", Counter[str](), World(seed=9, portfolios=EVENTS)
    kafka.create_topic(topic, partitions=2)
    same = [(None, envelope(NAME, f"of-{key}", data={"id": key}), None) for key in world.portfolios]
    async with Platform(world) as platform, AsyncExitStack() as stack:
        platform.faults.add(Fault(path="/events/deposit/", delay=2.0))
        store = {"url": postgresql.new_database()}
        settings = on_kafka(kafka, topic, tmp_path, group=topic, store=store, api=api_of(platform))
        both = [(await stack.enter_async_context(served(settings, depositing(runs))))[0] for _ in range(2)]
        await until(lambda: all(len(one.worker.transport_state.partitions) == 1 for one in both), 60.0)
        for partition in (0, 1):
            kafka.produce(topic, same, partition=partition)
        await until(lambda: sum(one.worker.taken for one in both) == 2 * EVENTS and all(one.worker.idle for one in both), 60.0)
        overlapped = runs.copy()
        assert overlapped.total() > EVENTS, "some ran in both at once, else this shows nothing"
        for partition in (0, 1):
            kafka.produce(topic, same, partition=partition)  # later: both know by now
        await until(lambda: sum(one.worker.taken for one in both) == 4 * EVENTS and all(one.worker.idle for one in both), 60.0)
        assert runs == overlapped, "what one has done the other knows"
        effects = platform.effects.all
        assert sorted(effect.body["portfolio"] for effect in effects) == sorted(world.portfolios), "each once, none lost"
        assert all(effect.conflicts == 0 for effect in effects)
        assert sum(len(effect.times) for effect in effects) == runs.total() <= 2 * EVENTS, "a second run carries the same key"
        assert ended(both) == {"done": runs.total(), "duplicate": 4 * EVENTS - runs.total()}
        for one in both:
            check_law(one)
    assert await letters(settings) == []


def ended(parts: list[Assembled]) -> dict[str, int]:
    counts = Counter[str]()
    for one in parts:
        counts.update(one.worker.metrics.routes[NAME].outcomes)
    return {ending: count for ending, count in counts.items() if count}
