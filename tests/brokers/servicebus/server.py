"""The process: connections, the namespace, and the steps between them.

One connection's request is another one's delivery: a send here is handed out there. So every step only notes which queues may
have something to hand out and which connections something to write, and `run` does both at its end.
"""

import asyncio
import ssl
import time
from pathlib import Path

from tests.brokers.servicebus.connection import Connection
from tests.brokers.servicebus.faults import Faults
from tests.brokers.servicebus.journal import Journal
from tests.brokers.servicebus.namespace import Namespace
from tests.brokers.servicebus.queue import Queue, Surroundings
from tests.brokers.servicebus.settings import Entities

LOOPBACK = "127.0.0.1"
TICK = 0.02  # seconds: how late a lock may end
BETWEEN_HEARTBEATS = 0.5


class Server:
    def __init__(self, entities: Entities, journal: Path, *, strict: bool = False) -> None:
        self.strict = strict
        self.faults = Faults()
        self.connections: set[Connection] = set()
        self.unwritten: set[Connection] = set()
        self._awake: set[Queue] = set()
        self.namespace = Namespace(entities, Surroundings(Journal(journal), self.now, self.wake))

    def now(self) -> float:
        return time.time()

    def wake(self, queue: Queue) -> None:
        self._awake.add(queue)

    def run(self) -> None:
        while self._awake:
            self._awake.pop().dispatch()
        while self.unwritten:
            self.unwritten.pop().write()

    async def listen(self, port: int, tls: ssl.SSLContext | None) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(lambda: Connection(self), LOOPBACK, port, ssl=tls)

    async def keep_time(self) -> None:
        """Until cancelled."""
        heartbeat = 0.0
        while True:
            await asyncio.sleep(TICK)
            self.namespace.tick()
            if time.monotonic() >= heartbeat:
                heartbeat = time.monotonic() + BETWEEN_HEARTBEATS
                for connection in tuple(self.connections):
                    connection.tick(self.faults.idle_limit)
            self.run()

    def cut(self) -> int:
        """Break every connection; how many."""
        doomed = tuple(self.connections)
        for connection in doomed:
            connection.cut()
        return len(doomed)

    def detach(self, path: str | None, condition: str, description: str) -> int:
        ended = sum(connection.detach_all(path, condition, description) for connection in tuple(self.connections))
        self.run()
        return ended
