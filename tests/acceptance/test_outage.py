"""The platform is down under load: no event dies of it, few requests reach the platform, and who does not need it goes on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from investbus import Context, Event, Router
from investbus.testing.bus import Bus, Result
from tests.acceptance.load import kafka_bus, rabbitmq_bus
from tests.acceptance.outage import ASKS, OTHER, TRIES, UNDER_WAY, Outage, Report
from tests.brokers.kafka import Kafka
from tests.brokers.rabbitmq import RabbitMq

PROBE_EVERY = 0.5


def check(report: Report) -> None:
    assert (report.done, report.dead) == (report.published, 0)
    assert report.attempts == 1, "no event is nearer to its dead letter than before"
    assert 1 <= report.probes <= report.closed_for / PROBE_EVERY + 1
    assert 1 <= report.requests <= TRIES * ((report.closed_for - UNDER_WAY) / PROBE_EVERY + 2)
    assert report.others_in_outage >= 50


@pytest.mark.broker
@pytest.mark.slow
async def test_an_outage_under_load_on_kafka_costs_no_dead_letter_and_one_probe_an_interval(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    check(await Outage(kafka_bus(kafka, topic, topic), tmp_path, rate=20.0, probe_every=PROBE_EVERY).run(1.0, 6.0))


@pytest.mark.broker
@pytest.mark.slow
async def test_an_outage_under_load_on_rabbitmq_costs_no_dead_letter_and_one_probe_an_interval(
    rabbitmq: RabbitMq, queue: str, tmp_path: Path
) -> None:
    check(await Outage(rabbitmq_bus(rabbitmq, queue), tmp_path, rate=20.0, probe_every=PROBE_EVERY).run(1.0, 6.0))


async def test_ten_minutes_of_outage_cost_nothing_but_the_wait(bus: Bus) -> None:
    """In virtual time, with the settings that users get."""
    router, attempts = Router(), set[int]()

    @router.on(ASKS)
    async def asks(event: Event[dict[str, Any]], ctx: Context) -> None:
        attempts.add(ctx.attempt)
        await ctx.api.portfolio(event.key)

    @router.on(OTHER, needs=())
    async def other(event: Event[dict[str, Any]], ctx: Context) -> None:
        """It needs nobody."""

    bus.use(router)
    clock = asyncio.get_running_loop().time
    waiting: list[asyncio.Task[Result]] = []
    for number in range(600):
        bus.api.get(f"/portfolios/P{number}/", status=503)
        waiting.append(asyncio.create_task(bus.send(ASKS, {"id": f"P{number}"})))
        began = clock()
        assert (await bus.send(OTHER, {"id": f"O{number}"})).outcome == "done"
        assert clock() - began < 0.1, "no time passes for who does not need the platform"
        await bus.advance(1.0)
    gate = (await bus._started()).gatehouse.gates["api"]
    assert gate.closed
    assert not any(one.done() for one in waiting)
    assert len(bus.api.calls) <= TRIES * (600 / 5 + 1 + 3), "three that close the gate, then one an interval"
    for number in range(600):
        bus.api.get(f"/portfolios/P{number}/", json={"id": f"P{number}"})
    back = clock()
    results = await asyncio.gather(*waiting)
    assert clock() - back <= 2 * 5.0 + 1.0, "one interval until a probe finds out, one until the speed is full"
    assert {one.outcome for one in results} == {"done"}
    assert attempts == {1}
    assert bus.dead_letters == []
