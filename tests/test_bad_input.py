"""Every row of the contract's table of bad input, through a whole worker on the `file` transport."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from investbus import Context, Event, Router
from investbus.catalogue import DivestAmountUpdate
from investbus.transport import Message
from tests.whole import at_rest, check_law, envelope, letters, publish, running, settings_in, until

DEEP = b"[" * 31 + b"]" * 31
GOOD = envelope(event_id="good", data={"id": "P-good"})


class Row:
    """One bad message and what must become of it."""

    def __init__(self, name: str, body: bytes, reason: str, **settings: Any) -> None:
        self.name, self.body, self.reason, self.settings = name, body, reason, settings


def wrapped(**changes: Any) -> bytes:
    return envelope(event_id=changes.pop("id", "bad"), **changes)


UNDECODABLE = [
    Row("not utf-8", b'{"id": "\xff\xfe"}', "encoding"),
    Row("utf-16", '{"id": "1"}'.encode("utf-16"), "encoding"),
    Row("not json", b"{broken", "json"),
    Row("nan", wrapped().replace(b'"ACTIVE"', b"NaN"), "json"),
    Row("infinity", wrapped().replace(b'"ACTIVE"', b"-Infinity"), "json"),
    Row("a number that no decimal holds", wrapped().replace(b'"ACTIVE"', b"1e9999999999999999999"), "json"),
    Row("nesting of 33", wrapped().replace(b'"ACTIVE"', DEEP), "json"),
    Row("deeply nested", b"{" * 100_000, "json"),
    Row("too large", wrapped(data={"x": "y" * 5000}), "size", dispatch={"max_event_bytes": 4096}),
    Row("a list", b"[1, 2]", "envelope"),
    Row("a number", b"17", "envelope"),
    *(Row(f"{field} missing", wrapped(**{field: ...}), "envelope") for field in ("id", "version", "subject", "action")),
    *(Row(f"{field} no string", wrapped(**{field: 7}), "envelope") for field in ("id", "version", "subject", "action")),
    *(Row(f"{field} empty", wrapped(**{field: ""}), "envelope") for field in ("id", "version", "subject", "action")),
    *(Row(f"{field} too long", wrapped(**{field: "1" * 201}), "envelope") for field in ("id", "version", "subject", "action")),
    *(Row(f"{field} with NUL", wrapped(**{field: "1\x00"}), "envelope") for field in ("id", "version", "subject", "action")),
    Row("dot in subject", wrapped(subject="port.folios"), "envelope"),
    Row("dot in action", wrapped(action="status.update"), "envelope"),
    Row("data a list", wrapped(data=[1]), "envelope"),
    Row("data null", wrapped(data=None), "envelope"),
    Row("version 2", wrapped(version="2.0.0"), "version"),
    Row("version no number", wrapped(version="one"), "version"),
    Row("broken raw line", b'{"$raw": "###"}', "json"),
]


def router_into(seen: list[Event[Any]]) -> Router:
    router = Router()

    @router.on("portfolios.status-update")
    async def note(event: Event[dict[str, Any]], ctx: Context) -> None:
        seen.append(event)

    @router.on("portfolios.divest-amount-update")
    async def pay(event: Event[DivestAmountUpdate], ctx: Context) -> None:
        seen.append(event)

    return router


@pytest.mark.parametrize("row", UNDECODABLE, ids=lambda row: row.name)
async def test_undecodable_is_a_dead_letter_with_its_bytes_and_the_next_goes_on(row: Row, tmp_path: Path) -> None:
    seen: list[Event[Any]] = []
    settings = settings_in(tmp_path, **row.settings)
    if row.name == "broken raw line":
        assert settings.file is not None
        settings.file.path.write_bytes(row.body + b"\n" + GOOD + b"\n")
    else:
        await publish(settings, row.body, GOOD)
    async with running(settings, router_into(seen)) as parts:
        await until(at_rest(parts, 2))
        metrics = parts.worker.metrics
        assert metrics.undecodable[row.reason] == 1
        assert sum(metrics.undecodable.values()) == 1
        assert metrics.routes["unknown"].dead["undecodable"] == 1
        assert metrics.routes["unknown"].received == 0
        assert metrics.routes["portfolios.status-update"].outcomes["done"] == 1
        check_law(parts)
    (letter,) = await letters(settings)
    assert (letter.reason, letter.route, letter.error, letter.attempts) == ("undecodable", "unknown", "DecodeError", 0)
    assert hashlib.sha256(letter.body).digest() == hashlib.sha256(row.body).digest()
    assert [event.id for event in seen] == ["good"]
    state = parts.worker.transport.counts
    assert state.ok == 2, "the bad one is acked, too"


@pytest.mark.parametrize(
    ("changes", "created", "raw"),
    [
        ({"created": ...}, None, ""),
        ({"created": "-1000000000-01-01T00:00:00Z"}, None, "-1000000000-01-01T00:00:00Z"),
        ({"created": 17}, None, "17"),
        ({"created": "2026-11-21T10:00:00"}, "2026-11-21T10:00:00+00:00", "2026-11-21T10:00:00"),
        ({"created": "2026-11-21T10:00:00.123456789Z"}, "2026-11-21T10:00:00.123456+00:00", "2026-11-21T10:00:00.123456789Z"),
        ({"surprise": {"x": [1]}}, "2026-11-21T10:00:00+00:00", "2026-11-21T10:00:00Z"),
        ({"data": {"id": "P1", "value": "A_NEW_STATUS", "more": 1}}, "2026-11-21T10:00:00+00:00", "2026-11-21T10:00:00Z"),
        ({"data": ...}, "2026-11-21T10:00:00+00:00", "2026-11-21T10:00:00Z"),
    ],
)
async def test_odd_but_readable_is_processed(changes: dict[str, Any], created: str | None, raw: str, tmp_path: Path) -> None:
    seen: list[Event[Any]] = []
    settings = settings_in(tmp_path)
    await publish(settings, envelope(**changes))
    async with running(settings, router_into(seen)) as parts:
        await until(at_rest(parts, 1))
        check_law(parts)
    (event,) = seen
    assert (None if event.created is None else event.created.isoformat(), event.created_raw) == (created, raw)
    assert event.data == ({} if changes.get("data") is ... else changes.get("data", {"id": "P1", "value": "ACTIVE"}))
    assert await letters(settings) == []


async def test_duplicate_keys_are_processed_and_the_last_wins(tmp_path: Path) -> None:
    seen: list[Event[Any]] = []
    settings = settings_in(tmp_path)
    await publish(settings, envelope().replace(b'"value":"ACTIVE"', b'"value":"OLD","value":"NEW"'))
    async with running(settings, router_into(seen)) as parts:
        await until(at_rest(parts, 1))
    assert [event.data["value"] for event in seen] == ["NEW"]


async def test_data_that_does_not_fit_is_dead_without_an_attempt(tmp_path: Path) -> None:
    seen: list[Event[Any]] = []
    settings = settings_in(tmp_path)
    bad = envelope("portfolios.divest-amount-update", data={"id": "P1", "divest_amount": "IBAN-SECRET", "currency": "EUR"})
    await publish(settings, bad)
    async with running(settings, router_into(seen)) as parts:
        await until(at_rest(parts, 1))
        counts = parts.worker.metrics.routes["portfolios.divest-amount-update"]
        assert counts.dead["data_invalid"] == 1
        assert sum(counts.attempts.values()) == 0
        check_law(parts)
    (letter,) = await letters(settings)
    assert (letter.reason, letter.error, letter.key, letter.body) == ("data_invalid", "DataInvalid", "P1", bad)
    assert "divest_amount" in letter.message
    assert "IBAN-SECRET" not in letter.message + letter.stack, "no value of data may show in an error"
    assert seen == []


async def test_an_empty_body_is_acked_and_ignored(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    await publish(settings, Message(b""), Message(b"", {"x": "y"}))
    async with running(settings, router_into([])) as parts:
        await until(at_rest(parts, 2))
        unknown = parts.worker.metrics.routes["unknown"]
        assert (unknown.received, unknown.outcomes["ignored"]) == (2, 2)
        check_law(parts)
    assert await letters(settings) == []
    assert parts.worker.transport.counts.ok == 2


@pytest.mark.parametrize("unrouted", ["ignore", "dead"])
async def test_a_name_that_no_route_takes(unrouted: str, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, dispatch={"unrouted": unrouted})
    body = envelope("users.something-new")
    await publish(settings, body)
    async with running(settings, router_into([])) as parts:
        await until(at_rest(parts, 1))
        unknown = parts.worker.metrics.routes["unknown"]
        assert unknown.received == 1
        assert unknown.outcomes["ignored" if unrouted == "ignore" else "dead"] == 1
        check_law(parts)
    assert [(letter.reason, letter.name, letter.body) for letter in await letters(settings)] == (
        [] if unrouted == "ignore" else [("unrouted", "users.something-new", body)]
    )


async def test_an_endless_number_for_an_integer_field_is_dead_at_once(tmp_path: Path) -> None:
    """pydantic would write a Decimal out as an integer: a million digits block the event loop for half a minute."""
    router = Router()

    class Counted(BaseModel):
        counts: list[int]

    @router.on("portfolios.status-update")
    async def handler(event: Event[Counted], ctx: Context) -> None:
        """Never runs."""

    settings = settings_in(tmp_path)
    endless = envelope().replace(b'{"id":"P1","value":"ACTIVE"}', b'{"counts":[1,1e999999,' + b"7" * 900_000 + b"]}")
    await publish(settings, endless)
    async with running(settings, router) as parts:
        await until(at_rest(parts, 1))
    (letter,) = await letters(settings)
    assert letter.reason == "data_invalid"
    assert "more than 4300 digits" in letter.message
