"""The `memory` transport: what is not acked comes again, in order, and nothing else does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from investbus import config_bus
from investbus.errors import TransportDown
from investbus.transport import Delivery, Message, Transport
from investbus.transports.memory import Memory


@pytest.fixture
async def memory() -> AsyncIterator[Memory]:
    memory = Memory(config_bus.Memory(), drain_cap=0.2, max_gap=100)
    await memory.open()
    yield memory
    await memory.close(1.0)


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


async def publish(memory: Memory, *names: str) -> None:
    await memory.publish([Message(name.encode()) for name in names])


async def test_messages_come_in_order_with_their_headers(memory: Memory) -> None:
    transport: Transport = memory
    await transport.publish([Message(b"1", {"a": "b"}), Message(b"2", key="k")])
    first, second = await transport.receive(10)
    assert (first.body, first.headers, first.redelivered, first.count) == (b"1", {"a": "b"}, False, 1)
    assert (second.body, second.headers) == (b"2", {})
    assert first.source == transport.source == "memory:events"
    assert first.origin != second.origin


async def test_receive_waits_for_the_first_and_hands_out_no_more_than_its_limit(memory: Memory) -> None:
    waiting = asyncio.create_task(memory.receive(2))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await publish(memory, "1", "2", "3")
    assert bodies(await waiting) == [b"1", b"2"]
    assert bodies(await memory.receive(2)) == [b"3"]


async def test_a_cancelled_receive_loses_nothing(memory: Memory) -> None:
    seen: list[bytes] = []
    for turn in range(50):
        waiting = asyncio.create_task(memory.receive(1))
        await asyncio.sleep(0)
        await publish(memory, str(turn))
        if turn % 2:
            await asyncio.sleep(0)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            seen += bodies(await waiting)
    while len(seen) < 50:
        seen += bodies(await asyncio.wait_for(memory.receive(10), 1))
    assert seen == [str(turn).encode() for turn in range(50)]


async def test_what_was_not_acked_comes_again_before_what_is_newer(memory: Memory) -> None:
    await publish(memory, "1", "2", "3", "4")
    deliveries = await memory.receive(3)
    deliveries[1].ack()
    deliveries[2].release()
    await memory.lose_lease()
    again = await memory.receive(10)
    assert [(one.body, one.redelivered, one.count) for one in again] == [
        (b"1", True, 2),
        (b"3", True, 2),
        (b"4", False, 1),
    ]
    assert again[0].origin == deliveries[0].origin


async def test_while_a_lease_drains_acks_count_and_nothing_new_is_handed_out(memory: Memory) -> None:
    await publish(memory, "1", "2", "3")
    one, two = await memory.receive(2)
    closing: list[bool] = []
    one.lease.on_closing(lambda lease: closing.append(lease.lost))
    losing = asyncio.create_task(memory.lose_lease())
    waiting = asyncio.create_task(memory.receive(10))
    await asyncio.sleep(0.05)
    assert closing == [False]
    assert not waiting.done()
    one.ack()
    await losing
    two.ack()
    assert bodies(await waiting) == [b"2", b"3"]
    assert (memory.counts.ok, memory.counts.lost, memory.counts.leases_lost) == (1, 1, 1)


async def test_a_drained_lease_is_not_waited_for(memory: Memory) -> None:
    await publish(memory, "1")
    (one,) = await memory.receive(1)
    losing = asyncio.create_task(memory.lose_lease())
    await asyncio.sleep(0)
    one.ack()
    await asyncio.wait_for(losing, 0.1)


async def test_close_and_open_deliver_again_what_was_open(memory: Memory) -> None:
    await publish(memory, "1", "2")
    deliveries = await memory.receive(2)
    deliveries[0].ack()
    await memory.close(1.0)
    assert (deliveries[1].lease.lost, memory.state().connected, memory.state().reason) == (True, False, "not open")
    await publish(memory, "3")
    await memory.open()
    deliveries[1].ack()
    assert bodies(await memory.receive(10)) == [b"2", b"3"]
    assert memory.counts.lost == 1


async def test_receive_on_a_closed_transport_raises(memory: Memory) -> None:
    waiting = asyncio.create_task(memory.receive(1))
    await asyncio.sleep(0)
    await memory.close(1.0)
    with pytest.raises(TransportDown, match="memory:events is not open"):
        await waiting
    with pytest.raises(TransportDown):
        await memory.receive(1)
    with pytest.raises(TransportDown):
        await memory.lose_lease()


async def test_unacked_deliveries_are_bounded(memory: Memory) -> None:
    await publish(memory, *(str(number) for number in range(150)))
    deliveries = await memory.receive(500)
    assert len(deliveries) == 100
    assert memory.state().gap_paused
    waiting = asyncio.create_task(memory.receive(500))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    deliveries[3].ack()
    assert bodies(await waiting) == [b"100"]


async def test_state_tells_lag_and_gap(memory: Memory) -> None:
    await publish(memory, "1", "2", "3")
    deliveries = await memory.receive(2)
    deliveries[0].ack()
    state = memory.state()
    assert (state.connected, state.joined, state.gap_paused) == (True, True, False)
    assert (state.partitions["0"].lag, state.partitions["0"].gap) == (1, 1)
    assert await memory.check() == []
