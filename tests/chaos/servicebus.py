"""Service Bus under chaos: a queue. An event is settled when the emulator's journal says so; in the end nothing lies in the queue.

Reading the journal along costs the emulator nothing; to ask it for all that lies in a queue, again and again, would take it so long
that locks run out. Locks are short, so that what a killed worker held comes back soon.
"""

import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusSender

from tests.brokers.servicebus.codec import DATA, decode, sections
from tests.brokers.servicebus.journal import Failed, Gone, Record, Stored
from tests.brokers.servicebus.lab import ServiceBus
from tests.brokers.servicebus.sources import open_servicebus
from tests.chaos.checks import unwatched
from tests.chaos.history import Head, Sent

LOCK = 5.0
SESSION_LOCK = 15.0  # a session is a connection of its own: a machine that makes hundreds is late with renewals
READ_EVERY = 0.05


class JournalReader:
    """What has become of the events of one queue."""

    def __init__(self, path: Path, queue: str) -> None:
        self.settled: dict[str, float] = {}
        self.returned: dict[str, int] = {}
        self.reads: list[float] = []
        self._path, self._queue = path, queue
        self._at = 0  # how far it has been read
        self._events: dict[int, str] = {}  # by sequence number
        self._decoder = msgspec.msgpack.Decoder(Record)

    def read(self) -> None:
        """All that was written since the last time, as far as it is whole."""
        with self._path.open("rb") as journal:
            journal.seek(self._at)
            data = journal.read()
        now, at = time.monotonic(), 0
        while len(data) - at >= 4 and (end := at + 4 + int.from_bytes(data[at : at + 4], "big")) <= len(data):
            self.note(self._decoder.decode(data[at + 4 : end]), now)
            at = end
        self._at += at
        self.reads.append(now)

    def note(self, record: Record, now: float) -> None:
        match record:
            case Stored(queue=self._queue):
                body = next(section for section in sections(record.wire) if section.code == DATA)
                data, _ = decode(record.wire, body.value)
                assert isinstance(data, bytes)
                self._events[record.sequence] = msgspec.json.decode(data, type=Head).id
            case Failed(queue=self._queue):
                self.returned[self._events[record.sequence]] = record.count
            case Gone(queue=self._queue):
                self.settled[self._events[record.sequence]] = now


class ServiceBusBus:
    """With `sessions` each worker holds so many at once, and a key is a session; with 0 a worker takes what comes. What a killed
    one held is free after `lock` seconds.
    """

    def __init__(self, servicebus: ServiceBus, journal: Path, *, sessions: int, lock: float | None = None) -> None:
        self.keyed = bool(sessions)
        self._servicebus, self._sessions = servicebus, sessions
        self._queue = f"chaos-{uuid.uuid4().hex[:12]}"
        self._journal = JournalReader(journal, self._queue)
        self._sender: ServiceBusSender
        self._sent: list[Sent] = []
        self._over = threading.Event()
        lock = lock or (SESSION_LOCK if sessions else LOCK)
        servicebus.create_queue(self._queue, lock=lock, sessions=self.keyed, max_delivery=1000)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        witness = threading.Thread(target=self._watch, name="reader of the journal", daemon=True)
        with ExitStack() as stack:
            client = stack.enter_context(ServiceBusClient.from_connection_string(self._servicebus.connection_string))
            self._sender = stack.enter_context(client.get_queue_sender(self._queue))
            witness.start()
            try:
                yield
            finally:
                self._over.set()
                witness.join()
                self._journal.read()

    def settings(self) -> dict[str, Any]:
        section = {"connection_string": self._servicebus.connection_string, "queue": self._queue, "sessions": self._sessions}
        return {"transport": "servicebus", "servicebus": section}

    def publish(self, events: Sequence[Sent]) -> None:
        messages = [ServiceBusMessage(event.body, session_id=event.key if self.keyed else None) for event in events]
        self._sender.send_messages(messages)
        self._sent += events

    def drained(self) -> bool:
        return all(event.event_id in self._journal.settled for event in self._sent)

    def settled(self) -> Mapping[str, float]:
        return self._journal.settled

    def returned(self) -> Mapping[str, int]:
        return self._journal.returned

    def violations(self) -> list[str]:
        contents = self._servicebus.contents(self._queue)
        left = {"queue": contents.active + contents.locked, "dead letters": contents.dead}
        full = [f"end: {len(copies)} messages lie in the {name}" for name, copies in left.items() if copies]
        return [*full, *unwatched(self._journal.reads)]

    def _watch(self) -> None:
        while not self._over.wait(READ_EVERY):
            self._journal.read()


@contextmanager
def opened(folder: Path, *, sessions: int, lock: float | None = None) -> Iterator[ServiceBusBus]:
    """A bus on an emulator of our own; raises Missing."""
    servicebus = open_servicebus(folder, own=True)
    try:
        yield ServiceBusBus(servicebus, folder / "journal", sessions=sessions, lock=lock)
    finally:
        servicebus.close()
