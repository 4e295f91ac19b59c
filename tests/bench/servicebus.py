"""Service Bus: a queue for each run, since a consumer empties it.

The SDK takes ten times as long for a message as anything else here, and part of that is waiting; so what counts is the rate.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.events import made
from tests.bench.rounds import Bench, Case, Target
from tests.bench.servicebus_cases import SOCKET_TIMEOUT, WINDOW
from tests.brokers.servicebus.lab import ServiceBus
from tests.brokers.servicebus.orders import Put

EVENTS = 10_000
PUT_AT_ONCE = 1_000  # the emulator takes orders of up to a megabyte


def bench(servicebus: ServiceBus, events: int = EVENTS) -> Bench:
    cases = (
        Case("bare", f"bare SDK: {WINDOW} held and {WINDOW} prefetched, gather(complete), pydantic", events),
        Case("bare-tight", f"bare SDK: {WINDOW // 2} and {WINDOW // 2}, so as many locked as with investbus", events),
        Case("investbus", "investbus, dedup off", events),
        Case("investbus-dedup", "investbus, dedup on (SQLite done table)", events),
    )
    targets = (Target("rate", "investbus", "bare", at_least=0.9),)

    @contextmanager
    def preload(count: int) -> Iterator[str]:
        queue = f"bench-{uuid.uuid4().hex[:8]}"
        servicebus.create_queue(queue, lock=60.0)
        puts = [Put(body) for _, body in made(count)]
        for start in range(0, count, PUT_AT_ONCE):
            servicebus.send(queue, puts[start : start + PUT_AT_ONCE])
        yield queue
        if servicebus.controllable:
            contents = servicebus.contents(queue)
            if left := len(contents.active) + len(contents.locked) + len(contents.dead):
                raise RuntimeError(f"{left} of {count} events were not settled")

    heading = f"Service Bus (emulator of the tests), a queue without sessions, window {WINDOW}, socket_timeout {SOCKET_TIMEOUT} s"
    return Bench("servicebus", heading, cases, targets, servicebus.connection_string, preload)
