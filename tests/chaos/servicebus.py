"""Service Bus under chaos: a queue, looked into again and again: an event is settled when it is no longer there, locked or not.

Only the emulator lets itself be looked into. Locks are short, so that what a killed worker held comes back soon.
"""

import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusSender

from tests.brokers.servicebus.lab import ServiceBus
from tests.brokers.servicebus.sources import open_servicebus
from tests.chaos.checks import unwatched
from tests.chaos.history import Head, Sent

LOCK = 5.0
LOOK_EVERY = 0.1


class Look(NamedTuple):
    """What lay in the queue: each event, and how often its delivery had failed. It was asked at `begin`, answered at `end`."""

    begin: float
    end: float
    there: Mapping[str, int]


class ServiceBusBus:
    """With `sessions` each worker holds so many at once, and a key is a session; with 0 a worker takes what comes."""

    def __init__(self, servicebus: ServiceBus, *, sessions: int) -> None:
        self.keyed = bool(sessions)
        self._servicebus, self._sessions = servicebus, sessions
        self._queue = f"chaos-{uuid.uuid4().hex[:12]}"
        self._sender: ServiceBusSender
        self._sent: list[tuple[Sent, float]] = []  # and when it was confirmed
        self._looks: list[Look] = []
        self._over = threading.Event()
        servicebus.create_queue(self._queue, lock=LOCK, sessions=self.keyed, max_delivery=1000)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        witness = threading.Thread(target=self._watch, name="witness of the queue", daemon=True)
        with ExitStack() as stack:
            client = stack.enter_context(ServiceBusClient.from_connection_string(self._servicebus.connection_string))
            self._sender = stack.enter_context(client.get_queue_sender(self._queue))
            witness.start()
            try:
                yield
            finally:
                self._over.set()
                witness.join()
                self._look()

    def settings(self) -> dict[str, Any]:
        section = {"connection_string": self._servicebus.connection_string, "queue": self._queue, "sessions": self._sessions}
        return {"transport": "servicebus", "servicebus": section}

    def publish(self, events: Sequence[Sent]) -> None:
        session = (lambda event: event.key) if self.keyed else (lambda event: None)
        self._sender.send_messages([ServiceBusMessage(event.body, session_id=session(event)) for event in events])
        self._sent += [(event, time.monotonic()) for event in events]

    def drained(self) -> bool:
        contents = self._servicebus.contents(self._queue)
        return not contents.active and not contents.locked

    def settled(self) -> Mapping[str, float]:
        return settled(self._looks, self._sent)

    def returned(self) -> Mapping[str, int]:
        highest: dict[str, int] = {}
        for look in self._looks:
            highest |= look.there
        return highest

    def violations(self) -> list[str]:
        contents = self._servicebus.contents(self._queue)
        left = {"queue": contents.active + contents.locked, "dead letters": contents.dead}
        full = [f"end: {len(copies)} messages lie in the {name}" for name, copies in left.items() if copies]
        return [*full, *unwatched([look.end for look in self._looks])]

    def _watch(self) -> None:
        while not self._over.wait(LOOK_EVERY):
            self._look()

    def _look(self) -> None:
        begin = time.monotonic()
        contents = self._servicebus.contents(self._queue)
        there = {msgspec.json.decode(copy.body, type=Head).id: copy.count for copy in contents.active + contents.locked}
        self._looks.append(Look(begin, time.monotonic(), there))


@contextmanager
def opened(folder: Path, *, sessions: int) -> Iterator[ServiceBusBus]:
    """A bus on an emulator of our own; raises Missing."""
    servicebus = open_servicebus(folder, own=True)
    try:
        yield ServiceBusBus(servicebus, sessions=sessions)
    finally:
        servicebus.close()


def settled(looks: Iterable[Look], sent: Iterable[tuple[Sent, float]]) -> dict[str, float]:
    """When each event, confirmed before the look began, was first seen to be gone."""
    waiting = {event.event_id: confirmed for event, confirmed in sent}
    found: dict[str, float] = {}
    for look in looks:
        gone = [each for each, confirmed in waiting.items() if confirmed < look.begin and each not in look.there]
        for event_id in gone:
            found[event_id] = look.end
            del waiting[event_id]
    return found
