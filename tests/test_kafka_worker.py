"""A whole worker on a real Kafka: the metrics law, and what probes say while the broker is away."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from investbus import Context, Event, Router
from investbus.assembly import Assembled, assembled, make_store, make_transport
from investbus.ops import OpsServer
from investbus.router import RouteTable
from tests.brokers.kafka import Kafka
from tests.whole import check_law, envelope, letters, settings_in, until

pytestmark = pytest.mark.broker
AWAY = 25.0  # seconds that the broker is stopped: longer than a lost one may go unnoticed


@asynccontextmanager
async def on_kafka(
    kafka: Kafka, topic: str, folder: Path, router: Router, session_timeout: float = 10.0
) -> AsyncIterator[tuple[Assembled, str]]:
    """A worker at work and the address of its pages."""
    group = f"g-{uuid.uuid4().hex[:8]}"
    section = {"bootstrap_servers": [kafka.bootstrap], "topic": topic, "group": group, "session_timeout": session_timeout}
    settings = settings_in(folder, transport="kafka", kafka=section)
    table = RouteTable(list(router.found()))
    async with assembled(settings, table, make_transport(settings), make_store(settings)) as parts:
        server = OpsServer(settings.ops, parts.console)
        await server.start()
        watching = asyncio.create_task(parts.console.watch())
        task = asyncio.create_task(parts.worker.run())
        try:
            yield parts, f"http://127.0.0.1:{server.port}"
            parts.worker.stop()
            assert await asyncio.wait_for(task, 30) is True
        finally:
            task.cancel()
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await server.stop()


async def asked(url: str) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.json()


async def test_every_event_ends_once_the_law_holds_and_everything_is_committed(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    seen: list[str] = []
    router = Router()

    @router.on("portfolios.status-update")
    async def note(event: Event[dict[str, Any]], ctx: Context) -> None:
        seen.append(event.id)
        if event.id.endswith("7"):
            raise ValueError("always")

    bodies = [envelope(event_id=f"e{n}", data={"id": f"P{n % 20}"}) for n in range(300)]
    kafka.produce(topic, [(f"P{n % 20}", body, None) for n, body in enumerate(bodies)], "zstd")
    kafka.produce(topic, [("x", b"broken", None), ("x", None, None), ("P1", bodies[1], None)], "lz4")
    async with on_kafka(kafka, topic, tmp_path, router) as (parts, _):
        await until(lambda: parts.worker.taken >= 303 and parts.worker.idle, 60.0)
        check_law(parts)
        counts = parts.worker.metrics.routes["portfolios.status-update"]
        assert counts.outcomes == {"done": 270, "dead": 30, "ignored": 0, "duplicate": 1, "released": 0}
        group = parts.worker.settings.kafka
        assert group is not None
        await until(lambda: parts.worker.transport.counts.ok == 303)
        assert sum((await asyncio.to_thread(kafka.committed, group.group, topic)).values()) == 303
    assert sorted(seen) == sorted([f"e{n}" for n in range(300)] + [f"e{n}" for n in range(7, 300, 10)] * 2)
    assert len(await letters(parts.worker.settings)) == 31


async def test_a_refusal_of_the_group_is_met_with_the_back_off_and_told_once(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with on_kafka(kafka, topic, tmp_path, Router(), session_timeout=7200.0) as (parts, url):
            await asyncio.sleep(4.0)
            status, answer = await asked(f"{url}/readyz")
            reconnects = parts.worker.metrics.reconnects.labels("kafka")._value.get()
    told = [line["event"] for line in lines if line["event"] not in ("draining", "stopped")]
    assert told == ["the bus is not there; trying again"]
    assert status == 503
    assert "kafka.session_timeout 7200 s is beyond" in answer["checks"]["transport"]["reason"]
    assert reconnects <= 3  # after 0.5, 1.5 and 3.5 s or later; without a back-off it would be 5 or more


async def test_probes_tell_the_truth_while_the_broker_is_away_and_the_worker_recovers(own_kafka: Kafka, tmp_path: Path) -> None:
    seen: list[str] = []
    router = Router()

    @router.on("portfolios.status-update")
    async def note(event: Event[dict[str, Any]], ctx: Context) -> None:
        seen.append(event.id)

    topic = f"away-{uuid.uuid4().hex[:8]}"
    own_kafka.create_topic(topic, partitions=2)
    own_kafka.produce(topic, [(None, envelope(event_id="before"), None)])
    async with on_kafka(own_kafka, topic, tmp_path, router) as (parts, url):
        await until(lambda: seen == ["before"], 40.0)
        assert (await asked(f"{url}/readyz"))[0] == 200
        await asyncio.to_thread(own_kafka.stop)
        stopped, loop = asyncio.get_running_loop().time(), asyncio.get_running_loop()
        noticed = None
        while loop.time() - stopped < AWAY:
            assert (await asked(f"{url}/livez"))[0] == 200
            status, answer = await asked(f"{url}/readyz")
            if status == 503 and noticed is None:
                noticed = loop.time() - stopped
                assert f"{own_kafka.bootstrap} refuses connections" in answer["checks"]["transport"]["reason"]
                assert [name for name, check in answer["checks"].items() if not check["ok"]] == ["transport"]
            await asyncio.sleep(0.5)
        assert noticed is not None
        assert noticed < 15.0, "a limit of the contract, not of this machine"
        own_kafka.start()
        own_kafka.produce(topic, [(None, envelope(event_id="after"), None)])
        await until(lambda: "after" in seen, 60.0)
        await until(lambda: not any(parts.console.readiness().values()), 20.0)
        assert sorted(seen) == ["after", "before"]
        check_law(parts)
