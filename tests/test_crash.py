"""An event that kills the process is found after three starts, becomes a dead letter, and takes nothing else with it."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from investbus import Context, Event, Retry, Router
from investbus.assembly import make_store
from investbus.errors import StoreError
from investbus.mailbox import Replay
from investbus.store import Filter
from investbus.testing.bus import Bus
from investbus.transport import Message
from tests.test_process import Process
from tests.whole import envelope, letters, publish, until

HANDLERS = '''
import asyncio, os, time
from investbus import Router
router = Router()

def note(text):
    with open("ledger", "a") as file:
        file.write(text + "\\n")

@router.on("portfolios.status-update")
async def handle(event, ctx):
    note("begin " + event.id)
    match event.data.get("value"):
        case "KILL": os._exit(139)
        case "BLOCK": time.sleep(1.6)
        case "SLOW": await asyncio.sleep(1000.0)
    await asyncio.sleep(0.05)
    note("end " + event.id)
'''

REJECTING = """
from investbus import Reject, Router
router = Router()

@router.on("portfolios.status-update")
async def handle(event, ctx):
    raise Reject("broken")
"""


@pytest.fixture
def process(tmp_path: Path) -> Process:
    process = Process(tmp_path, shutdown={"grace": 0.5})
    (tmp_path / "hand.py").write_text(HANDLERS)
    return process


def update(event_id: str, value: str, key: str = "") -> bytes:
    return envelope(event_id=event_id, data={"id": key or event_id, "value": value})


def run(process: Process, *flags: str) -> int:
    process.start("--until-idle", "0.5", *flags)
    code, said = process.ended()
    assert code in (0, 4, 139), said
    return code


async def test_an_event_that_kills_the_process_is_dead_after_three_starts_and_its_neighbours_are_done(process: Process) -> None:
    neighbours = [update(f"n{number}", "GOOD") for number in range(40)]
    await publish(process.settings, *neighbours[:20], update("poison", "KILL"), *neighbours[20:], update("next", "GOOD", "poison"))
    codes = [run(process) for _ in range(4)]
    assert codes == [139, 139, 139, 0]
    ledger = Counter(process.ledger())
    assert ledger["begin poison"] == 3
    assert all(ledger[f"end n{number}"] in (1, 2) for number in range(40)), "twice where it was under way at a kill"
    assert ledger["end next"] == 1
    (letter,) = await letters(process.settings)
    assert (letter.event_id, letter.reason, letter.error) == ("poison", "crashed", "Crashed")
    assert letter.body == update("poison", "KILL")


async def test_two_events_that_kill_the_process_are_found_one_after_the_other(process: Process) -> None:
    await publish(process.settings, update("a", "KILL"), update("b", "KILL"), *(update(f"n{n}", "GOOD") for n in range(9)))
    codes = [run(process) for _ in range(7)]
    assert codes[-1] == 0
    assert Counter(process.ledger())["end n8"] >= 1
    died = {(letter.event_id, letter.reason) for letter in await letters(process.settings)}
    assert died == {("a", "crashed"), ("b", "crashed")}


async def test_what_a_stop_had_to_cancel_has_not_killed_the_process(process: Process) -> None:
    """Four deploys while one handler hangs must not make a dead letter of its event."""
    await publish(process.settings, update("slow", "SLOW"))
    for _ in range(4):
        process.start()
        await until(lambda: bool(process.ledger()))
        (process.folder / "ledger").unlink()
        process.signal(15)
        assert process.ended()[0] == 4
    assert await letters(process.settings) == []


async def test_a_handler_that_blocks_the_loop_is_named_once_with_its_stack(process: Process) -> None:
    await publish(process.settings, update("1", "BLOCK"))
    process.start("--until-idle", "0.5", "--format", "json", "--set", "log.format=json")
    code, said = process.ended()
    told = [line for line in said.splitlines() if "blocks the event loop" in line]
    assert code == 0
    assert len(told) == 1
    assert '"handler":"hand:handle"' in told[0].replace('": "', '":"')
    assert "hand.py:15 handle" in told[0]
    assert "BLOCK" not in told[0]


async def test_an_attempt_that_ended_while_the_store_was_away_is_no_crash(bus: Bus) -> None:
    router, away = Router(), [True]

    @router.on("portfolios.status-update", needs=(), retry={"first": 500.0, "max": 500.0})
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if not ctx.redelivered:
            raise RuntimeError("waits until its lease is lost")

    bus.use(router)
    await bus._started()
    real = bus._store.ended

    async def ended(starts: Sequence[str]) -> None:
        if away:
            raise StoreError("the store is away")
        await real(starts)

    bus._store.ended = ended  # type: ignore[method-assign]
    assert bus._transport is not None
    await bus._transport.publish([Message(update("1", "GOOD"))])
    await bus.advance(1.0)
    await bus.lose_lease()
    await bus.advance(10.0)
    assert list(bus._store.starts.values()) == [1]
    away.clear()
    await bus.advance(10.0)
    assert bus._store.starts == {}


async def test_a_letter_that_kills_the_process_when_it_is_replayed_is_found_too(process: Process) -> None:
    """Else one worker after the other would take the replay, and die of it."""
    good, bad = update("good", "GOOD"), update("poison", "KILL")
    await publish(process.settings, good, bad)
    (process.folder / "hand.py").write_text(REJECTING)
    assert run(process) == 0
    (process.folder / "hand.py").write_text(HANDLERS)
    store = make_store(process.settings)
    await store.open()
    asked = Replay("r1", "", "ann", datetime.now(UTC), "all", 100.0, 3, again=False)
    await store.ask_replay(asked, await store.select_dead(Filter(state="open")))
    codes = list[int]()
    while len(codes) < 6 and 0 not in codes:
        codes.append(await asyncio.to_thread(run, process))
        with closing(sqlite3.connect(process.folder / "state.db")) as db, db:
            db.execute("UPDATE replays SET claimed = 0")  # in place of the 15 s that a claim outlives its worker
    found = await store.get_replay("r1")
    assert codes == [139, 139, 139, 0]
    assert found is not None
    assert (found.done, found.dead) == (1, 1)
    assert {(one.event_id, one.reason, one.state) for one in await letters(process.settings)} == {
        ("good", "rejected", "replayed"),
        ("poison", "crashed", "open"),
    }
    await store.close()


async def test_a_start_that_follows_while_the_last_one_is_erased_is_erased_as_well_when_the_worker_stops(bus: Bus) -> None:
    router, began = Router(), list[int]()

    @router.on("portfolios.status-update", needs=(), retry={"first": 0.3, "factor": 1.0}, timeout=5000.0)
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        if not ctx.redelivered:
            raise Retry(after=500.0)
        began.append(ctx.attempt)
        if len(began) == 1:
            raise RuntimeError("again")
        await asyncio.sleep(4000.0)

    bus.use(router, settings={"shutdown": {"grace": 1.0}})
    parts = await bus._started()
    real = bus._store.ended

    async def slowly(starts: Sequence[str]) -> None:
        await real(starts)
        await asyncio.sleep(1.0)

    bus._store.ended = slowly  # type: ignore[method-assign]
    assert bus._transport is not None
    await bus._transport.publish([Message(update("1", "GOOD"))])
    await bus.advance(1.0)
    await bus.lose_lease()
    await bus.advance(5.0)
    assert (len(began), list(bus._store.starts.values())) == (2, [1])
    parts.worker.stop()
    await bus.advance(30.0)
    assert bus._store.starts == {}, "else every stop would count against an event that takes long"
