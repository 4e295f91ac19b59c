"""Pauses: by an operator, of one route or of everything, and by a flood of dead letters; they hold until somebody lifts them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from structlog.testing import capture_logs

from investbus import Context, Event, Reject, Router
from investbus.assembly import Assembled, make_store
from investbus.mailbox import EVERYTHING, Pause
from investbus.pauses import Pauses
from investbus.testing.bus import Bus
from investbus.transport import Message
from tests.whole import at_rest, check_law, envelope, publish, running, settings_in, until

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
OPERATOR = Pause(EVERYTHING, "operator", "maintenance", "ann", NOON)


def routers(bad: frozenset[str] = frozenset()) -> tuple[Router, list[str]]:
    router, ran = Router(), []

    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
        ran.append(event.id)
        if event.key in bad:
            raise Reject("bad")

    router.on("a.b", needs=())(handler)
    router.on("a.c", needs=())(handler)
    return router, ran


async def put(bus: Bus, *bodies: bytes) -> Assembled:
    parts = await bus._started()
    assert bus._transport is not None
    await bus._transport.publish([Message(body) for body in bodies])
    return parts


def event(event_id: str, name: str = "a.b", key: str | None = None) -> bytes:
    return envelope(name, event_id, data={"id": key or event_id})


async def test_a_paused_route_waits_without_a_slot_and_others_go_on(bus: Bus) -> None:
    router, ran = routers()
    bus.use(router, settings={"dispatch": {"slots": 1}})
    await bus._store.pause(Pause("a.b", "operator", "core is down", "ann", NOON))
    parts = await put(bus, event("1"), event("2", "a.c"), event("3", "a.c", key="1"), event("4"))
    await bus.advance(100.0)
    assert ran == ["2"], "the third shares its key with the first, which waits"
    assert parts.console.paused() == {"operator"}
    assert parts.console.readiness() == {"handlers": "", "transport": "", "store": "", "worker": ""}
    await bus._store.resume("a.b", "ann", "up again", NOON)
    await bus.advance(2.0)
    assert sorted(ran) == ["1", "2", "3", "4"]
    assert ran.index("1") < ran.index("3")
    check_law(parts)


async def test_a_pause_of_everything_takes_nothing_from_the_bus_and_starts_nothing(bus: Bus) -> None:
    router, ran = routers()
    bus.use(router)
    parts = await put(bus, event("1"))
    await bus.advance(1.0)
    await bus._store.pause(OPERATOR)
    await bus.advance(3.0)
    await put(bus, *(event(str(number)) for number in range(2, 50)))
    await bus.advance(100.0)
    assert ran == ["1"]
    assert parts.worker.taken <= 2, "one receive may have been under way"
    assert parts.worker.waits_for == "resume"
    assert not parts.console.liveness()["receive"]
    await bus._store.resume(EVERYTHING, "ann", "", NOON)
    await bus.advance(3.0)
    assert len(ran) == 49
    assert parts.console.paused() == frozenset()


async def test_a_pause_outlives_the_process_and_holds_before_the_first_event(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    store = make_store(settings)
    await store.open()
    await store.pause(OPERATOR)
    await publish(settings, event("1"))
    router, ran = routers()
    async with running(settings, router) as parts:
        await until(lambda: parts.worker.waits_for == "resume")
        assert parts.worker.taken == 0
        await store.resume(EVERYTHING, "ann", "", NOON)
        await until(at_rest(parts, 1))
    assert ran == ["1"]
    await store.close()


async def test_dead_letters_in_a_row_of_as_many_keys_pause_the_worker_until_resume(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, store={"flood_after": 5}, dispatch={"slots": 1, "backlog": 1})
    router, ran = routers(bad=frozenset(f"bad{number}" for number in range(100)))
    await publish(settings, *(event(f"bad{number}") for number in range(4)), event("good"), event("bad4", key="bad4"))
    async with running(settings, router) as parts:
        await until(at_rest(parts, 6))
        assert parts.console.paused() == frozenset(), "any event that is done begins the count anew"
        await publish(settings, *(event(f"again{number}", key="bad4") for number in range(9)))
        await until(at_rest(parts, 15))
        assert parts.console.paused() == frozenset(), "one key is no flood"
        await publish(settings, *(event(f"bad{number}") for number in range(10, 30)))
        await until(lambda: parts.console.paused() == {"flood"})
        assert len(ran) < 15 + 8
    ran.clear()
    async with running(settings, router) as parts:
        await until(lambda: parts.worker.waits_for == "resume")
        assert parts.console.paused() == {"flood"}
        assert ran == []
        store = make_store(settings)
        await store.open()
        (pause,) = await store.pauses()
        assert (pause.route, pause.reason, pause.who) == (EVERYTHING, "flood", "investbus")
        await store.resume(EVERYTHING, "ann", "mended", NOON)
        await store.close()
        await until(lambda: len(ran) > 0)


async def test_undecodable_bodies_make_a_flood_as_well(bus: Bus) -> None:
    router, _ = routers()
    bus.use(router, settings={"store": {"flood_after": 3}})
    parts = await put(bus, b"{", b"[", b'"')
    await bus.advance(5.0)
    assert parts.console.paused() == {"flood"}
    assert [pause.reason for pause in await bus._store.pauses()] == ["flood"]


async def test_a_paused_worker_comes_back_to_a_bus_that_was_lost(bus: Bus) -> None:
    router = Router()

    @router.on("a.b", needs=())
    async def handler(event: Event[dict[str, Any]], ctx: Context) -> None: ...

    bus.use(router)
    parts = await bus._started()
    await bus._store.pause(Pause(EVERYTHING, "operator", "", "ann", NOON))
    await bus.advance(3.0)
    await parts.worker.transport.close(1.0)
    await bus.advance(30.0)
    assert parts.console.readiness()["transport"] == "", "a pause is no reason not to be ready"


def test_a_pause_that_somebody_asks_for_again_neither_ends_nor_begins() -> None:
    pauses = Pauses()
    flood = Pause(EVERYTHING, "flood", "100 dead letters", "worker-1", NOON)
    of_route = Pause("a.b", "operator", "the core is down", "ann", NOON)
    with capture_logs() as said:
        pauses.set([flood, of_route])
        pauses.set([msgspec.structs.replace(flood, who="worker-2", at=NOON + timedelta(seconds=1)), of_route])
        pauses.set([of_route])
        pauses.set([])
    told = [(line["event"], line["route"], line["reason"]) for line in said]
    assert told == [
        ("paused", "everything", "flood"),
        ("paused", "a.b", "operator"),
        ("resumed", "everything", "flood"),
        ("resumed", "a.b", "operator"),
    ]


async def test_status_names_the_route_that_is_paused(bus: Bus) -> None:
    router, _ = routers()
    bus.use(router)
    await bus._store.pause(Pause("a.b", "operator", "core is down", "ann", NOON))
    parts = await put(bus, event("1", "a.c"))
    await bus.advance(2.0)
    assert parts.console.status()["pauses"] == ["operator (route a.b)"]
    await bus._store.pause(OPERATOR)
    await bus.advance(2.0)
    assert parts.console.status()["pauses"] == ["operator", "operator (route a.b)"]
