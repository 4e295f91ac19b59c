"""Dead letters in the log: nobody has to ask the store to learn that there are some, and no flood of them floods the log."""

import asyncio
from typing import Any

from structlog.testing import capture_logs

from investbus import Context, Event, Reject, Router
from investbus.testing.bus import Bus
from tests.test_pauses import event, put

SECRET = "IBAN-canary"


def telling(said: list[Any]) -> list[dict[str, Any]]:
    return [line for line in said if "dead letter" in line["event"]]


async def test_the_first_of_a_kind_is_told_at_once_and_the_others_as_a_number(bus: Bus) -> None:
    router = Router()

    @router.on("a.b", needs=())
    async def book(event: Event[dict[str, Any]], ctx: Context) -> None:
        raise Reject(SECRET)

    @router.on("a.c", needs=())
    async def notify(event: Event[dict[str, Any]], ctx: Context) -> None:
        raise ValueError(SECRET)

    bus.use(router, settings={"retry": {"attempts": 1}})
    with capture_logs() as said:
        await put(bus, *(event(f"b{n}") for n in range(40)), event("c0", "a.c"), b"no event")
        await bus.advance(1.0)
        told = {(line["route"], line["reason"], line["error"]) for line in telling(said)}
        firsts = {("a.b", "rejected", "Reject"), ("a.c", "exhausted", "ValueError"), ("unknown", "undecodable", "DecodeError")}
        assert told == firsts
        assert len(telling(said)) == 3
        (first,) = [line for line in telling(said) if line["route"] == "a.b"]
        assert (first["event_id"], first["attempts"], first["log_level"]) == ("b0", 1, "warning")
        assert first["place"].startswith("tests/test_deaths.py:")
        assert first["letter"] in {letter.id for letter in bus.dead_letters}
        said.clear()
        await bus.advance(60.0)
        assert [(line["route"], line["letters"]) for line in telling(said)] == [("a.b", 39)]
        said.clear()
        await bus.advance(200.0)
        assert telling(said) == []
        await bus.send("a.b", {"id": "late"})
        assert len(telling(said)) == 1, "after a quiet minute the next one is a first again"
    assert SECRET not in str(said)


async def test_what_is_parked_behind_a_dead_letter_is_no_failure_of_its_own(bus: Bus) -> None:
    router = Router()

    @router.on("a.b", needs=(), after_dead="park")
    async def book(event: Event[dict[str, Any]], ctx: Context) -> None:
        raise Reject("no")

    bus.use(router)
    with capture_logs() as said:
        await put(bus, *(event(f"b{n}", key="same") for n in range(3)))
        await bus.advance(1.0)
        await asyncio.sleep(0)
    assert [line["event_id"] for line in telling(said)] == ["b0"]
