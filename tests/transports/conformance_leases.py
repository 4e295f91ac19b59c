"""Cases of every bus: what an ack is worth, and what comes again when a lease ends."""

import asyncio
import random

from investbus.transport import Delivery
from tests.transports.conformance_bus import Bus, decided, left, numbered, numbers, opened
from tests.transports.conformance_guarantees import proves
from tests.transports.reading import ack, take, until


class Leasing:
    @proves("singly", "in_order", "marked", "counted", "placed")
    async def test_when_a_lease_is_lost_what_was_not_acked_comes_again_and_nothing_else(self, bus: Bus) -> None:
        promised = bus.guarantees
        async with opened(bus.transport()) as transport:
            await transport.publish(numbered(0, 6))
            taken = await take(transport, 5)
            ack([taken[0], taken[1], taken[3]])
            await until(lambda: transport.counts.ok == (3 if promised.singly else 2))
            unfinished = [taken[2], taken[4]]
            await bus.end_lease(transport, unfinished)
            assert all(delivery.lease.lost for delivery in unfinished)
            expected = [2, 4, 5] if promised.singly else [2, 3, 4, 5]
            again = await take(transport, len(expected))
            assert sorted(numbers(again)) == expected
            assert (numbers(again) == expected) == promised.in_order
            assert not any(delivery.lease.lost for delivery in again)
            handed_out = [delivery for delivery in again if delivery.body != b"5"]
            assert {delivery.redelivered for delivery in handed_out} == {promised.marked}
            assert {delivery.count for delivery in handed_out} == {2 if promised.counted else 1}
            assert ({delivery.origin for delivery in handed_out} <= {delivery.origin for delivery in taken}) == promised.placed
            ack(again)
        assert await left(bus, transport) == []
        assert transport.counts.leases_lost >= 1

    async def test_a_late_ack_is_discarded_and_counted_and_does_not_settle_what_came_again(self, bus: Bus) -> None:
        async with opened(bus.transport()) as transport:
            await transport.publish(numbered(0, 3))
            late = await take(transport, 3)
            await bus.end_lease(transport, late)
            ack(late)
            assert (transport.counts.ok, transport.counts.lost) == (0, 3)
            again = await take(transport, 3)
            again[-1].ack()
            await asyncio.sleep(0.1)
        remaining = await left(bus, transport)
        assert sorted(remaining) == ([b"0", b"1"] if bus.guarantees.singly else [b"0", b"1", b"2"])
        assert decided(transport) == 3 + 1 + len(remaining) + 1

    @proves("finishes")
    async def test_what_runs_while_the_bus_takes_its_events_away_may_finish(self, bus: Bus) -> None:
        async with opened(bus.transport(drain_cap=4.0)) as transport:
            await transport.publish(numbered(0, 2))
            runs, waits = await take(transport, 2)
            ending = asyncio.create_task(bus.end_lease(transport, [runs, waits]))
            await until(lambda: runs.lease.closing)
            waits.release()
            await asyncio.sleep(0.2)
            runs.ack()
            await ending
        assert (await left(bus, transport) == [b"1"]) == bus.guarantees.finishes
        assert (transport.counts.lost == 0) == bus.guarantees.finishes

    async def test_acks_in_any_order_settle_each_event_once(self, bus: Bus) -> None:
        async with opened(bus.transport()) as transport:
            await transport.publish(numbered(0, 200))
            taken = await take(transport, 200)
            random.shuffle(taken)
            await asyncio.gather(*(self._finish(delivery) for delivery in taken))
        counts = transport.counts
        assert (counts.ok, counts.lost, counts.error, counts.leases_lost) == (200, 0, 0, 0)
        assert await left(bus, transport) == []

    async def _finish(self, delivery: Delivery) -> None:
        await asyncio.sleep(random.random() / 5)
        delivery.ack()

    async def test_the_first_decision_on_a_delivery_is_the_only_one(self, bus: Bus) -> None:
        async with opened(bus.transport()) as transport:
            await transport.publish(numbered(0, 3))
            acked, released, also_acked = await take(transport, 3)
            for delivery in (acked, also_acked):
                delivery.ack()
                delivery.ack()
                delivery.release()
            released.release()
            released.ack()
            await until(lambda: transport.counts.ok)
        assert await left(bus, transport) == ([b"1"] if bus.guarantees.singly else [b"1", b"2"])
