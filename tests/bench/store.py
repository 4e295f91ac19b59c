"""What an event costs in the store: one look-up and one done record, in batches as the worker makes them.

`python -m tests.bench.store [FOLDER]`; CPU of the whole process, both threads. The table holds `BEFORE` rows at the
start, and `created` grows with arrival, as in a live stream; the last line has it in disorder, which is the dear
case.
"""

import asyncio
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from investbus.store import Done, Identity
from investbus.stores.sqlite import SqliteStore

BEFORE = 500_000
EVENTS = 50_000
START = datetime(2025, 1, 1, tzinfo=UTC)
HASH = b"0123456789abcdef"


def identities(numbers: Iterable[int]) -> list[Identity]:
    return [
        Identity("kafka:events", f"route-{number % 5}", (START + timedelta(milliseconds=number)).isoformat(), str(uuid.uuid4()))
        for number in numbers
    ]


async def measured(store: SqliteStore, wanted: list[Identity], batch: int) -> tuple[float, float]:
    """Microseconds per event, CPU and wall."""
    cpu, wall = time.process_time(), time.perf_counter()
    for start in range(0, len(wanted), batch):
        asked = wanted[start : start + batch]
        found = await store.find_done(asked)
        await store.put_done([Done(one, HASH, "done") for one in asked if one not in found])
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return cpu / len(wanted) * 1e6, wall / len(wanted) * 1e6


async def bench(folder: Path) -> None:
    store = SqliteStore(folder / "state.db")
    await store.open()
    for start in range(0, BEFORE, 10_000):
        await store.put_done([Done(one, HASH, "done") for one in identities(range(start, start + 10_000))])
    first = BEFORE
    for batch in (500, 64):
        cpu, wall = await measured(store, identities(range(first, first + EVENTS)), batch)
        first += EVENTS
        sys.stdout.write(f"batches of {batch:3}: {cpu:5.2f} us CPU, {wall:5.2f} us wall per event\n")
    disorder = identities(random.sample(range(BEFORE), EVENTS))
    cpu, wall = await measured(store, disorder, 500)
    sys.stdout.write(f"`created` in disorder, batches of 500: {cpu:5.2f} us CPU, {wall:5.2f} us wall per event\n")
    cpu, wall = await measured(store, disorder, 500)
    sys.stdout.write(f"all of them repetitions, batches of 500: {cpu:5.2f} us CPU, {wall:5.2f} us wall per event\n")
    start_time = time.process_time()
    await store.forget(START, START)
    sys.stdout.write(f"forgetting nothing: {(time.process_time() - start_time) / first * 1e6:5.2f} us CPU per row\n")
    await store.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as made:
        asyncio.run(bench(Path(made)))
