"""The operator's pages of a whole worker: probes, metrics, status."""

import asyncio
from asyncio.subprocess import PIPE, STDOUT
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from investbus import Context, Event, Router
from investbus.config import Ops
from investbus.errors import ConfigError, StoreError
from investbus.metrics import PAUSE_REASONS, TABLE
from investbus.ops import OpsServer
from tests.whole import at_rest, envelope, publish, running, settings_in, until

router = Router()


@router.on("portfolios.status-update")
async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
    """Does nothing."""


async def get(server: OpsServer, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{server.port}{path}", headers=headers) as response,
    ):
        return response.status, await response.text(), response.headers["Content-Type"]


async def test_probes_metrics_and_status_of_a_worker_at_work(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    await publish(settings, envelope(), b"broken", envelope("users.secret-name", data={"email": "canary@example.com"}))
    async with running(settings, router) as parts:
        server = OpsServer(settings.ops, parts.console)
        await server.start()
        await until(at_rest(parts, 3))
        well = '{"ok":true,"checks":{"receive":{"ok":true},"dispatcher":{"ok":true},"handlers":{"ok":true}}}'
        assert (await get(server, "/livez"))[:2] == (200, well)
        assert (await get(server, "/readyz"))[0] == 200
        status, text, kind = await get(server, "/metrics")
        assert (status, kind.split(";")[0]) == (200, "text/plain")
        for row in TABLE:
            assert f"# TYPE investbus_{row.name} {row.kind}" in text, row.name
        for reason in PAUSE_REASONS:
            assert f'investbus_paused{{reason="{reason}"}} 0.0' in text
        assert 'investbus_events_total{outcome="done",route="portfolios.status-update"} 1.0' in text
        assert 'investbus_undecodable_total{reason="json",transport="file"} 1.0' in text
        _, _, kind = await get(server, "/metrics", Accept="application/openmetrics-text")
        assert kind.startswith("application/openmetrics-text")
        status, page, _ = await get(server, "/status")
        assert status == 200
        assert '"version"' in page
        for text_of in (text, page):
            assert "canary" not in text_of, "nothing of data may show"
            assert "secret-name" not in text_of, "no name that came over the bus may become a label"
        await server.stop()


REQUESTS = [("GET", "/", 404), ("GET", "/x", 404), ("POST", "/metrics", 405), ("DELETE", "/livez", 405), ("HEAD", "/livez", 200)]


@pytest.mark.parametrize(("method", "path", "status"), REQUESTS)
async def test_other_paths_and_methods(method: str, path: str, status: int, tmp_path: Path) -> None:
    async with running(settings_in(tmp_path), router) as parts:
        server = OpsServer(Ops(port=0), parts.console)
        await server.start()
        assert (await get(server, path, method))[0] == status
        await server.stop()


async def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    async with running(settings_in(tmp_path), router) as parts:
        first = OpsServer(Ops(port=0), parts.console)
        await first.start()
        second = OpsServer(Ops(port=first.port), parts.console)
        with pytest.raises(ConfigError) as caught:
            await second.start()
        (line,) = caught.value.lines
        assert f"ops.port: 127.0.0.1:{first.port} cannot be listened on" in line
        await first.stop()


@pytest.mark.parametrize("host", ["999.1.1.1", "192.0.2.1", "a..b"])
async def test_a_host_that_is_not_ours_is_one_line(host: str, tmp_path: Path) -> None:
    async with running(settings_in(tmp_path), router) as parts:
        with pytest.raises(ConfigError) as caught:
            await OpsServer(Ops(host=host, port=0), parts.console).start()
        (line,) = caught.value.lines
        assert line.startswith(f"ops.host: {host} is no address of this machine; ")


async def test_readiness_tells_draining_store_and_transport(tmp_path: Path) -> None:
    async with running(settings_in(tmp_path), router) as parts:
        await until(lambda: not any(parts.console.readiness().values()))
        parts.worker.settler.failing = "disk full"
        assert parts.console.readiness()["store"] == "disk full"
        assert "store" in parts.console.paused()
        assert not any(parts.console.liveness().values()), "a store that fails is no reason to restart"
        parts.worker.settler.failing = ""
        parts.worker.stop()
        assert parts.console.readiness()["worker"] == "draining"


async def test_a_dead_letter_is_durable_before_its_delivery_is_acked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invariant 2: while storing fails the event waits, and nothing is acked."""
    settings = settings_in(tmp_path)
    await publish(settings, b"broken")
    async with running(settings, router) as parts:
        store = parts.worker.store
        assert store is not None
        real = store.put_dead

        async def full(*_: Any) -> None:
            raise StoreError("disk full")

        monkeypatch.setattr(store, "put_dead", full)
        await until(lambda: parts.worker.settler.failing == "disk full")
        await asyncio.sleep(1.5)  # an ack would have moved the position by now
        assert parts.worker.transport.counts.ok == 0
        assert parts.worker.dispatcher.backlog.unfinished == 1
        assert parts.console.readiness()["store"] == "disk full"
        monkeypatch.setattr(store, "put_dead", real)
        await until(lambda: not parts.worker.dispatcher.backlog.unfinished)
        assert not any(parts.console.readiness().values())
    assert parts.worker.transport.counts.ok == 1


@pytest.mark.broker
async def test_metrics_pass_promtool(tmp_path: Path, promtool: Path) -> None:
    settings = settings_in(tmp_path)
    await publish(settings, envelope())
    async with running(settings, router) as parts:
        await until(at_rest(parts, 1))
        body, _ = parts.console.exposition("")
    process = await asyncio.create_subprocess_exec(promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    said, _ = await process.communicate(body)
    assert (process.returncode, said) == (0, b"")


async def test_a_short_job_cleans_up_its_store_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by cron for a minute each, no process ever lives for an hour."""
    settings = settings_in(tmp_path, store={"keep_dead": 1e12})
    asked: list[tuple[datetime, datetime]] = []
    async with running(settings, router) as parts:
        assert parts.worker.store is not None
        real = parts.worker.store.forget

        async def forget(done_before: datetime, dead_before: datetime) -> int:
            asked.append((done_before, dead_before))
            return await real(done_before, dead_before)

        monkeypatch.setattr(parts.worker.store, "forget", forget)
        watching = asyncio.create_task(parts.console.watch())
        await until(lambda: bool(asked))
        assert not watching.done()
        watching.cancel()
    ((done_before, dead_before),) = asked
    assert timedelta(days=6.9) < datetime.now(UTC) - done_before < timedelta(days=7.1)
    assert dead_before == datetime.fromtimestamp(0, UTC), "what is kept for longer than time has run is kept"
