"""What an answer says, read with suspicion. Pure: the time is passed in.

Of a body nothing but its request id is ever repeated in an error: the platform's error pages echo the request, personal data
included.
"""

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

import msgspec

from investbus.errors import ApiError
from investbus.platform.wire import Answer

decode = msgspec.json.Decoder(float_hook=Decimal).decode
UNREADABLE = (ValueError, ArithmeticError, RecursionError)  # no JSON; a number beyond Decimal; nested without end


def status_label(status: int) -> str:
    """The metric label `status`."""
    if status in (202, 401, 404, 429):
        return str(status)
    return {2: "2xx", 4: "4xx", 5: "5xx"}.get(status // 100, "error")


def retry_after(answer: Answer, now: float) -> float | None:
    """Seconds from now (unix time) until the platform wants to be asked again; None if it does not say."""
    said = answer.headers.get("retry-after", "").strip()
    with suppress(ValueError):
        seconds = float(said)
        return max(0.0, seconds) if isfinite(seconds) else None
    with suppress(ValueError, OverflowError, IndexError):  # what email.utils raises for dates that are none
        at = parsedate_to_datetime(said)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return max(0.0, (at - datetime.fromtimestamp(now, UTC)).total_seconds())
    return None


def request_id(answer: Answer) -> str | None:
    """What the platform's support asks for."""
    said = answer.headers.get("x-request-id")
    with suppress(*UNREADABLE):
        said = msgspec.json.decode(answer.body, type=dict[str, Any]).get("request_id", said)
    return said[:100] if isinstance(said, str) and said.isprintable() else None


def json_object(operation: str, answer: Answer) -> dict[str, Any]:
    """The object that the body holds. Raises ApiError."""
    try:
        value = decode(answer.body)
    except UNREADABLE:
        raise ApiError(operation, answer.status, request_id(answer), "the answer is no JSON") from None
    if not isinstance(value, dict):
        raise ApiError(operation, answer.status, request_id(answer), "the answer is no JSON object")
    return value
