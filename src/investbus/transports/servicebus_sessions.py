"""Sessions in turn: each seat takes the next session that has events, owns it until it is idle or lost, and takes another.

The SDK opens a connection for each try, and a seat that waits for a session keeps one busy; so only a few of them wait at
a time, however many seats there are.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import structlog
from azure.servicebus import NEXT_AVAILABLE_SESSION
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import OperationTimeoutError, ServiceBusError

from investbus.transports.servicebus_connection import CLOSE_WITHIN, Connection, one_line
from investbus.transports.servicebus_silence import ANSWER_WITHIN, Silence

ACCEPTING = 4
ACCEPT_FOR = 8.0  # seconds that the service looks for a session: then it answers, which shows that it is there
ACCEPT_TRIES = 3
ACCEPT_AGAIN = 1.0

log = structlog.get_logger("investbus.servicebus")


async def knock(connection: Connection) -> None:
    """Open a session that nobody else has, and leave it: raises what stands in the way of opening any."""
    receiver = connection.receiver(session=f"investbus-{uuid.uuid4().hex}")
    await connection.open(receiver)
    await connection.end(receiver, CLOSE_WITHIN)


class Seat:
    """Holds one session at a time. `waiting` is shared by all seats; `own` returns when a session is over."""

    def __init__(
        self, connection: Connection, waiting: asyncio.Semaphore, own: Callable[[ServiceBusReceiver], Awaitable[None]]
    ) -> None:
        self._connection = connection
        self._waiting = waiting
        self._own = own
        self.silence = Silence()
        self.owning = False
        self.leaving = False

    async def run(self) -> None:
        """Until `leaving` is set and the session is over, or cancelled while it is not `owning`. Raises what the SDK raises."""
        failures = 0
        while not self.leaving:
            async with self._waiting:
                try:
                    receiver = await self._accept()
                except ServiceBusError as error:
                    failures += 1
                    if failures >= ACCEPT_TRIES:
                        raise
                    log.info("no session could be taken, trying again", reason=one_line(error))
                    await asyncio.sleep(ACCEPT_AGAIN)
                    continue
            failures = 0
            if receiver is not None:
                self.owning = True
                await self._own(receiver)
                self.owning = False

    async def _accept(self) -> ServiceBusReceiver | None:
        """The next session that has events and no owner; None if there is none."""
        receiver = self._connection.receiver(session=NEXT_AVAILABLE_SESSION, patience=ACCEPT_FOR)
        self.silence.ask(ACCEPT_FOR + ANSWER_WITHIN)
        try:
            await self._connection.open(receiver)
        except OperationTimeoutError as error:
            if "com.microsoft:timeout" not in str(error):  # not the service's answer
                raise
            self.silence.heard()
            return None
        self.silence.heard()
        return receiver
