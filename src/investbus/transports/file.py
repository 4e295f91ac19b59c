"""The `file` transport: a bus for one machine that needs no broker, an append-only log with a saved position beside it.

It behaves as a log broker does. Events are handed out in the order of the log, finish in any order, and what is saved
is the end of the finished prefix; after a crash everything behind that comes again. A delivery's position is the byte
after its line break: the event's place in the log, and at the same time the offset to save once all up to there is
finished.
"""

import asyncio
import os
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import structlog

from investbus import config_bus
from investbus.errors import TransportDown, TransportRefused, UnsafeStart
from investbus.transport import Delivery, Lease, Message, PartitionState, SettleCounts, TransportState
from investbus.transports import file_log
from investbus.transports.file_position import Position
from investbus.watermark import Watermark

POLL = 0.1  # seconds between looks at a log that has nothing new
SAVE_EVERY = 1.0

log = structlog.get_logger("investbus.transport.file")


class _Reading:
    """All that begins with `open` and ends with `close`: a lease, its watermark, how far reading and saving got."""

    keeper: asyncio.Task[None]  # saves and counts, begun last

    def __init__(self, start: int, lock: BinaryIO, counts: SettleCounts, max_gap: int) -> None:
        self.lock = lock
        self.lease = Lease(self._acked, counts, is_log=True)
        self.watermark = Watermark()
        self.lines: deque[tuple[int, bytes]] = deque()  # read and not yet delivered, each with the offset of its end
        self.read_to = start
        self.counted_to = start
        self.events = 0  # lies between where reading began and `counted_to`
        self.delivered = 0
        self.acks = 0
        self.saved = 0  # deliveries up to the saved position
        self.failing = False  # the last try to save did not succeed
        self.idle = asyncio.Event()  # nothing is outstanding or at hand: a good moment to save
        self.resumed = asyncio.Event()  # not set: paused, since too many deliveries are behind an unfinished one
        self.resumed.set()
        # One thread, so that what is written about the position is written in order, the release of the lock last.
        self.disk = ThreadPoolExecutor(1, thread_name_prefix="investbus-position")
        self._max_gap = max_gap

    def add(self, lines: bytes) -> bool:
        """Take whole lines from the log; False if there were none."""
        for line in lines.split(b"\n")[:-1]:
            self.read_to += len(line) + 1
            if line.strip():
                self.lines.append((self.read_to, line))
        return bool(lines)

    def deliver(self, limit: int, source: str) -> list[Delivery]:
        deliveries = []
        for _ in range(min(limit, len(self.lines), self._max_gap - self.watermark.gap)):
            end, line = self.lines.popleft()
            body, headers, fault = file_log.decode(line)
            self.watermark.delivered(end)
            deliveries.append(Delivery(body, headers, source, end, self.lease, fault=fault))
        self.lease.unsettled += len(deliveries)
        self.delivered += len(deliveries)
        if self.watermark.gap >= self._max_gap:
            self.resumed.clear()
        return deliveries

    def _acked(self, position: int) -> None:
        self.acks += 1
        self.watermark.finished(position)
        if self.watermark.gap < self._max_gap / 2:
            self.resumed.set()
        if not self.lease.unsettled and not self.lines:
            self.idle.set()


class File:
    """One log, read by one worker and written by any number of publishers, who need neither `open` nor its lock."""

    name: str = "file"
    guarantees: Mapping[str, str] = {
        "delivery": "at least once",
        "order": "order of the log, and per key in one process",
        "replicas": "one worker for a log, on one machine; a second one is refused",
    }

    def __init__(self, settings: config_bus.File, *, drain_cap: float, max_gap: int) -> None:
        self._path = Path(os.path.abspath(settings.path))
        self._position = Position(self._path)
        self._drain_cap = drain_cap
        self._max_gap = max_gap
        self._reading: _Reading | None = None
        self.source = f"file:{self._path}"
        self.counts = SettleCounts()

    async def open(self) -> None:
        with self._disk_errors():
            lock = self._position.lock()
            try:
                start = self._position.load()
                reading = _Reading(start, lock, self.counts, self._max_gap)
                reading.add(await asyncio.to_thread(file_log.read, self._path, start))
                await self._count(reading)
            except BaseException:
                lock.close()
                raise
        self._reading = reading
        reading.keeper = asyncio.create_task(self._keep(reading))

    async def receive(self, limit: int) -> list[Delivery]:
        while True:
            reading = self._reading
            if reading is None:
                raise TransportDown(f"{self.source} is not open")
            if reading.keeper.done():
                reading.keeper.result()  # raises: a bug there must not leave a worker that saves nothing and says nothing
            if not reading.resumed.is_set():
                await reading.resumed.wait()
            elif reading.lines:
                return reading.deliver(limit, self.source)
            else:
                with self._disk_errors():
                    # Should this be cancelled, nothing was taken: the next call reads the same lines.
                    lines = await asyncio.to_thread(file_log.read, self._path, reading.read_to)
                if not reading.add(lines):
                    await asyncio.sleep(POLL)

    async def publish(self, messages: Sequence[Message]) -> None:
        """Durable when it returns. A call that is cancelled or fails may have written some of its messages."""
        lines = b"".join(map(file_log.encode, messages))
        if lines:
            with self._disk_errors():
                await asyncio.to_thread(file_log.append, self._path, lines)

    async def close(self, flush_timeout: float) -> None:
        """What runs may be acked for `drain_cap` seconds, at most half of `flush_timeout`; the rest is for the disk."""
        reading, self._reading = self._reading, None
        if reading is None:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + flush_timeout
        reading.resumed.set()  # a `receive` that waits there has to find out
        reading.lease.close()
        try:
            await reading.lease.drained(min(self._drain_cap, flush_timeout / 2))
            reading.keeper.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._save(reading)
        finally:
            reading.keeper.cancel()
            reading.lease.lose()
            self.counts.lost += reading.acks - reading.saved
            # Behind a write that hangs: until it ends nobody else may save a position, which it would then overwrite.
            unlocked = asyncio.wrap_future(reading.disk.submit(reading.lock.close))
            reading.disk.shutdown(wait=False)
        ending: set[asyncio.Future[Any]] = {reading.keeper, unlocked}
        await asyncio.wait(ending, timeout=max(0.0, until - loop.time()))

    def state(self) -> TransportState:
        reading = self._reading
        if reading is None:
            return TransportState(connected=False, joined=False, reason="not open")
        partition = PartitionState(
            lag=max(0, reading.events - reading.delivered),  # what was read since the last count is not counted yet
            gap=reading.delivered - reading.saved,
        )
        return TransportState(True, True, partitions={"0": partition}, gap_paused=not reading.resumed.is_set())

    async def check(self) -> list[str]:
        return await asyncio.to_thread(self._findings)

    def _findings(self) -> list[str]:
        try:
            with self._disk_errors():
                with tempfile.TemporaryFile(dir=self._path.parent):
                    pass
                file_log.read(self._path, self._position.load())
        except (TransportDown, UnsafeStart) as error:
            return [str(error)]
        return []

    async def _keep(self, reading: _Reading) -> None:
        """Save the position once a second, and at once when nothing is outstanding; count what is new on the log."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SAVE_EVERY):
                    await reading.idle.wait()
            reading.idle.clear()
            await self._save(reading)
            with suppress(OSError, UnsafeStart):  # `receive` meets the same and raises it
                await self._count(reading)

    async def _count(self, reading: _Reading) -> None:
        reading.counted_to, events = await asyncio.to_thread(file_log.count, self._path, reading.counted_to)
        reading.events += events

    async def _save(self, reading: _Reading) -> None:
        safe, finished = reading.watermark.safe, reading.delivered - reading.watermark.gap
        if safe is None or finished == reading.saved:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(reading.disk, self._position.save, safe)
        except OSError as error:
            self.counts.error += 1
            if not reading.failing:
                log.warning("position not saved, trying again", path=str(self._position.path), error=error.strerror)
            reading.failing = True
        else:
            self.counts.ok += finished - reading.saved
            reading.saved = finished
            reading.failing = False

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """What the disk says, as what a bus says."""
        try:
            yield
        except OSError as error:
            folder = self._path.parent
            if not folder.is_dir():
                raise TransportRefused(f"{self.source}: folder {folder} does not exist; create it") from None
            what = f"{self.source}: {error.strerror} ({error.filename or self._path})"
            if isinstance(error, PermissionError | IsADirectoryError):
                raise TransportRefused(what) from error
            raise TransportDown(what) from error
