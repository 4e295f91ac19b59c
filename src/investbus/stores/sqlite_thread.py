"""One thread owns the SQLite connection; the event loop hands it jobs and never waits for the disk.

A commit costs an fsync, so all jobs that wait share one transaction: the busier the worker, the cheaper an event.
Reads take the same queue. That makes the order of calls the order of effects (a look-up issued after a put sees it),
and nothing is answered before what it has seen is durable.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeVar

from investbus.errors import StoreError, UnsafeStart
from investbus.stores.sqlite_file import StoreFile
from investbus.stores.sqlite_schema import prove_writable

Result = TypeVar("Result")


class _Job(NamedTuple):
    work: Callable[[sqlite3.Connection], Any]
    writes: bool
    answer: asyncio.Future[Any]


class _Answer(NamedTuple):
    to: asyncio.Future[Any]
    result: Any
    error: Exception | None = None


class StoreThread:
    """The queue, the thread, and its connection: opened when first needed, and anew after each failure."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()  # None is the end
        self._db: sqlite3.Connection | None = None  # the thread's own
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Open the file and prove that it can be written. Raises UnsafeStart or StoreError, and is then as before."""
        if self._thread is not None:
            return
        self._loop = asyncio.get_running_loop()
        # A daemon: a process that ends without `stop` must not hang on it, and what was answered is on the disk.
        self._thread = Thread(target=self._run, args=(self._loop,), name="investbus-store", daemon=True)
        self._thread.start()
        try:
            await self._ask(prove_writable, writes=True)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Refuse new jobs, finish those that wait, close the file."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        self._jobs.put(None)
        await asyncio.to_thread(thread.join)

    async def read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        return await self._call(work, writes=False)

    async def write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Durable on return. A caller that is cancelled does not take its job back."""
        return await self._call(work, writes=True)

    async def _call(self, work: Callable[[sqlite3.Connection], Result], *, writes: bool) -> Result:
        try:
            return await self._ask(work, writes=writes)
        except UnsafeStart as error:  # the file was replaced by one that this version must not touch
            raise StoreError(str(error)) from error

    async def _ask(self, work: Callable[[sqlite3.Connection], Result], *, writes: bool) -> Result:
        if self._thread is None or self._loop is None:
            raise StoreError(f"store {self._file.path}: is closed")
        answer: asyncio.Future[Result] = self._loop.create_future()
        self._jobs.put(_Job(work, writes, answer))
        return await answer

    # ---- in the thread

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while jobs := self._waiting():
            answers = self._transact(jobs)
            with suppress(RuntimeError):  # the loop is closed, and nobody is left to be told
                loop.call_soon_threadsafe(_give, answers)
        if self._db is not None:
            with suppress(sqlite3.Error):  # what is committed stands in the WAL; the next start reads it from there
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._disconnect()
        self._file.let_go()

    def _waiting(self) -> list[_Job]:
        """All jobs that wait, at least one; none at the end."""
        jobs: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            jobs.append(job)
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return jobs
        if jobs:
            self._jobs.put(None)  # for the next turn, which finds nothing else
        return jobs

    def _transact(self, jobs: list[_Job]) -> list[_Answer]:
        """All jobs in one transaction. If that fails as a whole, none of them has happened, and each is told so.

        A job that is alone fails with its transaction, and needs no savepoint.
        """
        try:
            db = self._connected()
            # A deferred transaction that turns to writing fails at once if another process has written meanwhile.
            db.execute("BEGIN IMMEDIATE" if any(job.writes for job in jobs) else "BEGIN")
            answers = [self._attempt(db, job) if len(jobs) > 1 else _Answer(job.answer, job.work(db)) for job in jobs]
            db.execute("COMMIT")
        except Exception as error:
            self._disconnect()
            return [_Answer(job.answer, None, self._file.explained(error)) for job in jobs]
        if any(answer.error is not None for answer in answers):
            self._disconnect()
        return answers

    def _attempt(self, db: sqlite3.Connection, job: _Job) -> _Answer:
        """One job, which fails alone unless SQLite has given up the whole transaction."""
        db.execute("SAVEPOINT job")
        try:
            result = job.work(db)
        except Exception as error:
            if not db.in_transaction:
                raise
            db.execute("ROLLBACK TO job")
            db.execute("RELEASE job")
            return _Answer(job.answer, None, self._file.explained(error))
        db.execute("RELEASE job")
        return _Answer(job.answer, result)

    def _connected(self) -> sqlite3.Connection:
        self._file.check_in_place()
        if self._db is None:
            self._db = self._file.connect()
        return self._db

    def _disconnect(self) -> None:
        """Closing rolls back what is open; the next job connects anew, so no failure outlives its cause."""
        if self._db is not None:
            db, self._db = self._db, None
            with suppress(sqlite3.Error):
                db.close()


def _give(answers: list[_Answer]) -> None:
    for answer in answers:
        if answer.to.done():  # cancelled by its caller
            continue
        if answer.error is not None:
            answer.to.set_exception(answer.error)
        else:
            answer.to.set_result(answer.result)
