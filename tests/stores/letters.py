"""Dead letters and done records to test with: everything set, everything different from its neighbour's."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from investbus.store import DeadLetter, Done, Identity, Try

NOON = datetime(2025, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def letter(number: int = 0, **changes: Any) -> DeadLetter:
    """The `number`th letter; each is a second younger than the one before."""
    at = NOON + timedelta(seconds=number)
    made = DeadLetter(
        id=f"letter{number:05}",
        source="kafka:events",
        origin=f"events/3/{number}",
        event_id=f"event-{number}",
        created="2025-03-01T12:00:00.123456Z",
        route="portfolios.divest-amount-update",
        name="portfolios.withdrawal",
        key=f"P{number}",
        reason="exhausted",
        error="ApiError 500",
        message="post /withdrawals/: HTTP 500",
        stack='Traceback:\n  File "pay.py", line 31\n',
        place="bank/pay.py:31",
        attempts=2,
        tries=(Try(at - timedelta(seconds=3), 0.25, "TimeoutError"), Try(at, 1.5e-06, "ApiError 500")),
        first_at=at - timedelta(seconds=3, microseconds=1),
        last_at=at,
        headers={"content-type": "application/json", "ключ": "значение"},
        body=b'{"id": "event-%d"}' % number,
        handler="bank.pay:pay_out",
        handler_version="bank 1.2.3",
    )
    return msgspec.structs.replace(made, **changes)


def identity(number: int = 0, **changes: Any) -> Identity:
    made = Identity("kafka:events", "portfolios.creation", f"2025-03-01T12:00:{number:05}Z", f"event-{number}")
    return msgspec.structs.replace(made, **changes)


def done(number: int = 0, body_hash: bytes = b"h" * 16) -> Done:
    return Done(identity(number), body_hash, "done")
