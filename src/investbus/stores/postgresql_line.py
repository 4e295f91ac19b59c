"""One connection, opened when first needed and anew after each failure.

Its jobs run one after another, in the order of the calls: a look-up issued after a put sees it. There is no pool below it. A pool
mends its connections in the background, by a clock of its own, and tells its clients only that none was free; here each call finds
out for itself, says why, and the first call after the server is back finds it.

A job is a task of its own and runs to its end though its caller is cancelled: no connection is left in the middle of an answer.
"""

import asyncio
import os
import select
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg

from investbus.errors import StoreError, UnsafeStart
from investbus.stores.postgresql_errors import explained
from investbus.stores.postgresql_schema import Connection, prepare
from investbus.stores.postgresql_url import Address

CONNECT = 6.0  # seconds for a connection, for each host of the URL
ANSWER = 12.0  # seconds for a job; the server itself gives up a statement sooner, unless it is frozen or cut off

Result = TypeVar("Result")
Job = Callable[[Connection], Awaitable[Result]]


class Line:
    """Used by one event loop between `start` and `stop`."""

    def __init__(self, address: Callable[[], Address], place: str) -> None:
        """`address` is asked at each login: a rotated password is in the new one."""
        self._address = address
        self._place = place
        self._connection: Connection | None = None
        self._turn: asyncio.Lock | None = None  # None while closed
        self._jobs: set[asyncio.Task[Any]] = set()

    @property
    def started(self) -> bool:
        return self._turn is not None

    def start(self) -> None:
        self._turn = asyncio.Lock()

    async def stop(self) -> None:
        """Refuse new jobs, finish those that were asked for, close the connection."""
        self._turn = None
        if self._jobs:
            await asyncio.wait(self._jobs)
        await self._drop()

    async def call(self, job: Job[Result]) -> Result:
        """Raises StoreError and nothing else."""
        try:
            return await self.first_call(job)
        except UnsafeStart as error:  # another version has taken over meanwhile
            raise StoreError(str(error)) from error

    async def first_call(self, job: Job[Result]) -> Result:
        """Raises UnsafeStart where a newer version keeps the tables, else StoreError."""
        if self._turn is None:
            raise StoreError(f"store {self._place}: is closed")
        task = asyncio.create_task(self._in_turn(self._turn, job))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        return await asyncio.shield(task)

    async def _in_turn(self, turn: asyncio.Lock, job: Job[Result]) -> Result:
        try:
            async with asyncio.timeout(ANSWER) as patience, turn:
                patience.reschedule(None)
                return await self._attempt(job)
        except TimeoutError:
            raise StoreError(f"store {self._place}: earlier calls are not answered") from None

    async def _attempt(self, job: Job[Result]) -> Result:
        try:
            return await self._answer(job)
        except Exception as error:
            await self._drop()
            raise explained(error, self._place) from error
        except BaseException:  # the loop ends in the middle of an answer
            await self._drop()
            raise

    async def _answer(self, job: Job[Result]) -> Result:
        if self._connection is not None and _has_news(self._connection):
            await self._drop()
        if self._connection is None:
            self._connection = await self._connected()
        with _answering(self._connection):
            return await job(self._connection)

    async def _connected(self) -> Connection:
        address = self._address()
        self._place = address.place
        limit = CONNECT * address.hosts
        try:
            async with asyncio.timeout(limit):
                connection = await psycopg.AsyncConnection.connect(address.conninfo, autocommit=True)
        except TimeoutError:
            raise TimeoutError(f"no connection within {limit:g} s") from None
        try:
            with _answering(connection):
                await prepare(connection, self._place)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _drop(self) -> None:
        """What was not committed is rolled back by the server."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()


def _has_news(connection: Connection) -> bool:
    """Whether the server has said something unasked, and that is how it says that it goes away; also a line that broke."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def _answering(connection: Connection) -> Iterator[None]:
    """Give up after `ANSWER` seconds, by cutting the line: psycopg's own way, to cancel, asks a server that does not answer."""
    loop = asyncio.get_running_loop()
    alarm = loop.call_later(ANSWER, _cut, connection)
    try:
        yield
    except psycopg.Error as error:
        if loop.time() >= alarm.when():
            raise TimeoutError(f"did not answer within {ANSWER:g} s") from error
        raise
    finally:
        alarm.cancel()


def _cut(connection: Connection) -> None:
    """Only shut down and not closed, which would free the number of the descriptor while the loop still watches it."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
