"""The `file` transport in one process: what is delivered, what becomes of a lease, and what is bounded."""

import asyncio
import json
import random
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from investbus import config_bus
from investbus.errors import TransportDown
from investbus.transport import Delivery, Message, Transport
from investbus.transports import file_log
from investbus.transports.file import File


def a_bus(log: Path, *, drain_cap: float = 0.05, max_gap: int = 1000) -> File:
    return File(config_bus.File(path=log), drain_cap=drain_cap, max_gap=max_gap)


@asynccontextmanager
async def opened(log: Path, *, drain_cap: float = 0.05, max_gap: int = 1000) -> AsyncIterator[File]:
    bus = a_bus(log, drain_cap=drain_cap, max_gap=max_gap)
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close(2.0)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events.ndjson"


async def take(bus: File, number: int) -> list[Delivery]:
    taken: list[Delivery] = []
    async with asyncio.timeout(10):
        while len(taken) < number:
            taken += await bus.receive(number - len(taken))
    return taken


async def nothing_comes(bus: File) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            await bus.receive(10)
            return False
    return True


async def eventually(condition: Callable[[], bool], within: float) -> bool:
    for _ in range(int(within / 0.01)):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False


def write(log: Path, content: bytes) -> None:
    with log.open("ab") as file:
        file.write(content)


def saved(log: Path) -> int:
    position = log.with_name(f"{log.name}.position")
    return int(json.loads(position.read_bytes())["position"]) if position.exists() else 0


def numbered(first: int, last: int) -> list[Message]:
    return [Message(b'{"id": "%d"}' % number) for number in range(first, last)]


# ---- what is delivered

messages = st.builds(Message, st.binary(max_size=30), st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=2))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(messages, max_size=5), max_size=5))
async def test_what_is_published_comes_back_identical_and_in_order(batches: list[list[Message]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder, "log")) as bus:
            for batch in batches:
                await bus.publish(batch)
            sent = [(message.body, message.headers, "") for batch in batches for message in batch]
            taken = await take(bus, len(sent))
            assert [(one.body, one.headers, one.fault) for one in taken] == sent
            assert bus.state().partitions["0"].gap == len(sent)


async def test_the_position_of_a_delivery_is_the_byte_after_its_line_break(log: Path) -> None:
    write(log, b'{"id":1}\n \t\r\n\n{"$raw": 1}\n')
    async with opened(log) as bus:
        transport: Transport = bus
        one, two = await take(bus, 2)
        assert (one.body, one.position, one.fault) == (b'{"id":1}', 9, "")
        assert (two.body, two.position, two.fault) == (b'{"$raw": 1}', 26, "json")
        assert one.origin == f"file:{log}@9"
        assert one.source == transport.source == f"file:{log}"


async def test_a_missing_log_is_waited_for(log: Path) -> None:
    async with opened(log) as bus:
        assert (bus.state().connected, bus.state().joined) == (True, True)
        assert await nothing_comes(bus)
        write(log, b"1\n")
        assert [one.body for one in await take(bus, 1)] == [b"1"]


async def test_a_last_line_is_not_there_before_its_line_break(log: Path) -> None:
    write(log, b"1\n22")
    async with opened(log) as bus:
        assert [one.body for one in await take(bus, 1)] == [b"1"]
        assert await nothing_comes(bus)
        write(log, b"22")
        assert await nothing_comes(bus)
        write(log, b"\n3")
        assert [one.body for one in await take(bus, 1)] == [b"2222"]
        await bus.publish([Message(b"4")])
        assert [one.body for one in await take(bus, 2)] == [b"3", b"4"]


async def test_a_cancelled_receive_loses_nothing(log: Path) -> None:
    seen: list[bytes] = []
    async with opened(log) as bus:
        for batch in range(100):
            await bus.publish(numbered(3 * batch, 3 * batch + 3))
            receiving = asyncio.create_task(bus.receive(2))
            await asyncio.sleep(random.choice((0, 0.0001, 0.001)))
            receiving.cancel()
            with suppress(asyncio.CancelledError):
                seen += [one.body for one in await receiving]
        assert 0 < len(seen) < 200, "some were cancelled and some were not"
        seen += [one.body for one in await take(bus, 300 - len(seen))]
    assert seen == [message.body for message in numbered(0, 300)]


async def test_memory_is_bounded_by_the_chunk_and_not_by_the_log(log: Path) -> None:
    line = b"x" * 1999 + b"\n"
    write(log, line * 25_000)
    tracemalloc.start()
    try:
        async with opened(log) as bus:
            for _ in range(25_000 // 100):
                for delivery in await take(bus, 100):
                    delivery.ack()
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * file_log.CHUNK
    assert saved(log) == 50_000_000


# ---- leases


async def test_what_was_not_finished_comes_again_on_a_new_lease(log: Path) -> None:
    bus = a_bus(log)
    await bus.publish(numbered(0, 4))
    await bus.open()
    first = await take(bus, 4)
    first[0].ack()
    first[2].ack()
    first[3].release()
    await bus.close(1.0)
    assert first[0].lease.lost
    await bus.open()
    again = await take(bus, 3)
    assert [one.position for one in again] == [one.position for one in first[1:]]
    assert again[0].lease is not first[0].lease
    await bus.close(1.0)


async def test_acks_on_a_lost_lease_are_discarded(log: Path) -> None:
    bus = a_bus(log)
    await bus.publish(numbered(0, 4))
    await bus.open()
    early, late, behind, never = await take(bus, 4)
    early.ack()
    behind.ack()
    await bus.close(1.0)
    position = saved(log)
    late.ack()
    never.ack()
    await bus.open()
    await asyncio.sleep(0.05)
    assert saved(log) == position == early.position
    assert (bus.counts.ok, bus.counts.lost, bus.counts.leases_lost) == (1, 3, 1), "each ack counts once"
    await bus.close(1.0)


async def test_what_runs_may_finish_while_the_lease_closes(log: Path) -> None:
    bus = a_bus(log, drain_cap=5)
    await bus.publish(numbered(0, 2))
    await bus.open()
    runs, queued = await take(bus, 2)
    runs.lease.on_closing(lambda lease: queued.release())
    closing = asyncio.create_task(bus.close(10.0))
    await asyncio.sleep(0.1)
    assert not closing.done()
    runs.ack()
    await asyncio.wait_for(closing, 1)
    assert saved(log) == runs.position
    assert (bus.counts.ok, bus.counts.lost) == (1, 0)


async def test_close_waits_no_longer_than_drain_cap(log: Path) -> None:
    bus = a_bus(log, drain_cap=0.1)
    await bus.publish(numbered(0, 1))
    await bus.open()
    await take(bus, 1)
    began = time.monotonic()
    await bus.close(10.0)
    assert 0.09 < time.monotonic() - began < 1


async def test_a_closed_transport_says_so(log: Path) -> None:
    bus = a_bus(log, max_gap=1)
    await bus.close(1.0)
    with pytest.raises(TransportDown, match="is not open"):
        await bus.receive(1)
    await bus.publish(numbered(0, 2))
    await bus.open()
    await take(bus, 1)
    paused = asyncio.create_task(bus.receive(1))
    await asyncio.sleep(0.05)
    await bus.close(0.2)
    with pytest.raises(TransportDown, match="is not open"):
        await asyncio.wait_for(paused, 1)
    assert (bus.state().connected, bus.state().joined, bus.state().reason) == (False, False, "not open")


# ---- bounds and what can be seen


async def test_too_large_a_gap_pauses_until_it_is_half(log: Path) -> None:
    async with opened(log, max_gap=10) as bus:
        await bus.publish(numbered(0, 30))
        deliveries = await take(bus, 10)
        assert bus.state().gap_paused
        for delivery in deliveries[1:]:
            delivery.ack()
        assert await nothing_comes(bus)
        waiting = asyncio.create_task(bus.receive(100))
        deliveries[0].ack()
        more = await asyncio.wait_for(waiting, 1)
        assert len(more) == 10
        for delivery in more[:5]:
            delivery.ack()
        assert await nothing_comes(bus)
        assert bus.state().gap_paused
        more[5].ack()
        assert not bus.state().gap_paused
        assert len(await take(bus, 6)) == 6


async def test_state_tells_lag_and_gap(log: Path) -> None:
    write(log, b"1\n\n2\n \n3\n4")
    async with opened(log) as bus:
        assert bus.state().partitions["0"].lag == 3
        first, second = await take(bus, 2)
        assert (bus.state().partitions["0"].lag, bus.state().partitions["0"].gap) == (1, 2)
        await bus.publish(numbered(0, 2))
        assert await eventually(lambda: bus.state().partitions["0"].lag == 4, within=3)
        first.ack()
        second.ack()
        assert bus.state().partitions["0"].gap == 2, "acked but not yet saved"
        assert await eventually(lambda: bus.state().partitions["0"].gap == 0, within=1)
        assert saved(log) == second.position
