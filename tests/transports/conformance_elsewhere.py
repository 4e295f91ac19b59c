"""Cases of a bus that lies outside of the process: it may be missing, gone, taken by others, or not want us."""

import asyncio
import traceback
from collections.abc import Awaitable

import pytest

from investbus.errors import TransportDown, TransportRefused, UnsafeStart
from investbus.transport import Delivery, Transport
from tests.transports.conformance_bus import (
    PLENTY,
    Remote,
    Shared,
    consuming,
    decided,
    left,
    nothing_is_left_behind,
    numbered,
    numbers,
    opened,
    published,
)
from tests.transports.conformance_guarantees import proves
from tests.transports.reading import ack, take, until

BOUNDED = 20.0  # seconds for an answer, whatever it is
NOTICED = 15.0  # a lost broker shows within this
MANY = 1200  # more than any buffer holds


async def failure(attempt: Awaitable[object]) -> TransportDown:
    """What it says, in one line and within a bounded time, of an attempt that cannot succeed."""
    with pytest.raises(TransportDown) as down:
        await asyncio.wait_for(attempt, BOUNDED)
    assert "\n" not in str(down.value)
    return down.value


async def refusals(transport: Transport) -> list[TransportDown]:
    """What it says to whoever opens it and to whoever publishes; `check` has to say the same as a finding."""
    said = [await failure(transport.open()), await failure(transport.publish(numbered(0, 1)))]
    assert [type(error) for error in said] == [TransportRefused, TransportRefused]
    assert str(said[0]) in await asyncio.wait_for(transport.check(), BOUNDED)
    assert (transport.state().connected, transport.state().joined) == (False, False)
    await transport.close(1.0)
    return said


class Sharing:
    async def test_a_destination_that_is_missing_is_refused_by_its_name(self, bus: Shared) -> None:
        transport, name = bus.astray()
        assert all(name in str(error) for error in await refusals(transport))

    @proves("second")
    async def test_a_second_worker_gets_what_the_first_gives_back(self, bus: Shared) -> None:
        first, second = bus.transport(bound=2), bus.transport(bound=2)
        await first.publish(numbered(0, 4))
        async with opened(first):
            held = await take(first, 2)
            met, seen = await self._beside(second, held)
            assert met == bus.guarantees.second
            for delivery in held:
                delivery.release()
        if met == "is refused":
            await second.open()
        ack(seen)
        while set(numbers(seen)) != {0, 1, 2, 3}:
            more = await take(second, 1)
            ack(more)
            seen += more
        assert len(seen) == 4
        assert await left(bus, second) == []

    async def _beside(self, second: Transport, held: list[Delivery]) -> tuple[str, list[Delivery]]:
        """What becomes of a worker that is started while another one holds events."""
        try:
            await second.open()
        except UnsafeStart:
            return "is refused", []
        await until(lambda: second.state().joined)
        try:
            taken = await take(second, 1, within=1.5)
        except TimeoutError:
            return "waits", []
        return "waits" if any(delivery.lease.lost for delivery in held) else "shares the events", taken


class Reaching:
    async def test_wrong_credentials_are_refused_in_one_line_without_the_secret(
        self, bus: Remote, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        transport, secret = bus.intruder()
        for error in await refusals(transport):
            assert "credentials" in str(error)
            assert secret not in "".join(traceback.format_exception(error))
        assert secret not in "".join([*capfd.readouterr(), caplog.text, repr(transport)])

    async def test_not_asking_costs_neither_the_connection_nor_the_lease(self, bus: Remote) -> None:
        """With five events in hand, and all buffers full."""
        async with opened(bus.transport()) as transport:
            await transport.publish(numbered(0, MANY))
            taken = await take(transport, 5)
            await asyncio.sleep(bus.silence)
            assert (transport.state().connected, transport.state().joined) == (True, True)
            ack(taken)
            while len(taken) < MANY:
                more = await asyncio.wait_for(transport.receive(PLENTY), 10.0)
                ack(more)
                taken += more
            await until(lambda: transport.counts.ok == MANY)
        assert numbers(taken) == list(range(MANY))
        assert not any(delivery.redelivered for delivery in taken)
        assert (transport.counts.lost, transport.counts.error, transport.counts.leases_lost) == (0, 0, 0)
        assert await left(bus, transport) == []

    async def test_a_broker_that_stops_is_noticed_and_costs_nothing_once_it_is_back(self, bus: Remote) -> None:
        transport = bus.transport()
        await transport.publish(numbered(0, 10))
        await transport.open()
        received = await take(transport, 10)
        ack(received[:4])
        await until(lambda: transport.counts.ok == 4)
        await bus.stop()
        ack(received[4:7])  # nobody is there to hear of it
        lost = numbered(-1, 0)
        unheard = asyncio.create_task(transport.publish(lost))
        await until(lambda: not transport.state().connected, within=NOTICED)  # although nobody asks it for events
        assert transport.state().reason
        await failure(unheard)
        newcomer = bus.transport()
        for error in (await failure(newcomer.open()), await failure(newcomer.publish(lost)), await failure(newcomer.check())):
            assert not isinstance(error, TransportRefused)
        await newcomer.close(1.0)
        assert transport.counts.ok == 4
        await bus.start()
        async with consuming(transport) as more:
            await published(transport, numbered(10, 15))
            await until(lambda: self._rest(received + more, 15) == set())
        received += more
        handled = [number for number in numbers(received) if number >= 0]
        assert set(handled) == set(range(15))
        assert all(handled.count(number) == 1 for number in range(4))
        assert decided(transport) == sum(delivery.settled for delivery in received)
        assert [body for body in await left(bus, transport) if body != b"-1"] == []
        await nothing_is_left_behind()

    def _rest(self, received: list[Delivery], count: int) -> set[int]:
        """Ack what can still be acked; which events were not, neither by that nor before the broker was stopped."""
        ours = [delivery for delivery in received if not delivery.lease.lost]
        ack([delivery for delivery in ours if not delivery.settled])
        return set(range(4, count)) - set(numbers(ours))
