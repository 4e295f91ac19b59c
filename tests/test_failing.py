"""An event that always fails: its attempts, its waits, its dead letter, and the neighbours that never notice."""

import asyncio
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from investbus import Context, Event, Reject, Retry, Router
from investbus.testing.bus import Bus
from investbus.transport import Message
from tests.whole import at_rest, envelope, letters, publish, running, settings_in, until

router = Router()


@router.on("portfolios.status-update")
async def handler(event: Event[dict[str, Any]], ctx: Context) -> None:
    match event.data.get("value"):
        case "FAIL":
            raise ValueError("the ledger said no")
        case "LATER":
            raise Retry(after=7.0, reason="cut-off")
        case "NO":
            raise Reject("closed account")


async def test_five_attempts_at_the_documented_waits(bus: Bus) -> None:
    bus.use(router)
    result = await bus.send("portfolios.status-update", {"id": "P1", "value": "FAIL"})
    assert (result.outcome, result.reason, result.attempts) == ("dead", "exhausted", 5)
    assert result.waited == [1.0, 3.0, 9.0, 27.0]


async def test_the_handlers_own_wait_is_an_attempt_like_any_other(bus: Bus) -> None:
    bus.use(router)
    result = await bus.send("portfolios.status-update", {"id": "P1", "value": "LATER"})
    assert (result.outcome, result.reason, result.attempts) == ("dead", "exhausted", 5)
    assert result.waited == [7.0, 7.0, 7.0, 7.0]


async def test_the_key_waits_in_order_and_other_keys_do_not_wait(bus: Bus) -> None:
    order: list[str] = []
    ordered = Router()

    @ordered.on("portfolios.status-update")
    async def note(event: Event[dict[str, Any]], ctx: Context) -> None:
        order.append(event.id)
        if event.id == "bad":
            raise ValueError("always")

    bus.use(ordered)
    sent = [("bad", "P1"), ("behind", "P1"), ("elsewhere", "P2")]
    results = await asyncio.gather(*(bus.send("portfolios.status-update", {"id": key}, id=name) for name, key in sent))
    assert [result.outcome for result in results] == ["dead", "done", "done"]
    assert order == ["bad", "elsewhere", "bad", "bad", "bad", "bad", "behind"]


async def test_the_dead_letter_tells_everything(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    body = envelope(event_id="bad", data={"id": "P1", "value": "FAIL", "amount": 12.50}, created="2026-11-21T10:00:00.123456789Z")
    await publish(settings, Message(body, {"trace": "abc"}), envelope(event_id="next", data={"id": "P1"}))
    began = datetime.now(UTC)
    async with running(settings, router) as parts:
        await until(at_rest(parts, 2))
        counts = parts.worker.metrics.routes["portfolios.status-update"]
        assert counts.attempts["retry"] == 2
        assert counts.attempts["exhausted"] == 1
        assert counts.outcomes["done"] == 1, "the key goes on behind its dead letter"
        assert counts.dead["exhausted"] == 1
    (letter,) = await letters(settings)
    assert sha256(letter.body).digest() == sha256(body).digest()
    assert dict(letter.headers) == {"trace": "abc"}
    assert letter.origin.startswith(f"file:{tmp_path}/events.ndjson@")
    assert (letter.event_id, letter.created, letter.key) == ("bad", "2026-11-21T10:00:00.123456789Z", "P1")
    assert (letter.reason, letter.error, letter.message) == ("exhausted", "ValueError", "the ledger said no")
    assert 'raise ValueError("the ledger said no")' in letter.stack
    assert letter.place == f"tests/test_failing.py:{handler.__code__.co_firstlineno + 4}"
    assert (letter.handler, letter.state, letter.attempts) == ("tests.test_failing:handler", "open", 3)
    assert [one.error for one in letter.tries] == ["ValueError"] * 3
    times = [one.at for one in letter.tries]
    assert times == sorted(times)
    assert began <= times[0] == letter.first_at < letter.last_at <= datetime.now(UTC)
