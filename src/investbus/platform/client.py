"""Calls of the platform: one deadline, a few retries of its own, and answers turned into what they mean for the event.

Whether an event is tried again is not decided here: the client says what it met (`ApiUnavailable`, `ApiNotReady`, `ApiError`), and
the worker's retry policy and gates do the rest. The statuses are those of the platform's errors page, plus 429, 502 and 504.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any

import msgspec
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential

from investbus.ambient import Ambient
from investbus.config import Api as ApiSettings
from investbus.errors import ApiError, ApiNotReady, ApiUnavailable
from investbus.metrics import Metrics
from investbus.platform.api import Api
from investbus.platform.login import Login
from investbus.platform.urls import build
from investbus.platform.wire import AiohttpWire, Answer, NoAnswer, Wire

TRIES = 3  # of one call, while its deadline lasts
UNAVAILABLE = (429, 502, 503, 504)
decode = msgspec.json.Decoder(float_hook=Decimal).decode


class Client:
    """One for the worker; `bound` gives the view that an event's handler works with."""

    def __init__(
        self,
        settings: ApiSettings,
        metrics: Metrics,
        ambient: Ambient,
        *,
        answered: Callable[[], None],
        wire: Wire | None = None,
    ) -> None:
        """`answered` is called whenever the platform gave an answer below 500 that is not 429: its gate may open."""
        self.settings = settings
        self._metrics = metrics
        self._ambient = ambient
        self._answered = answered
        self._wire = wire or AiohttpWire(settings.concurrency)
        self._room = asyncio.Semaphore(settings.concurrency)
        self._login = Login(settings, self._post_login, metrics, ambient)

    def bound(self, fresh_until: float) -> Api:
        """The API for one event; until `fresh_until` (unix time) a 404 means "not yet"."""
        return Api(self, fresh_until)

    async def close(self) -> None:
        await self._wire.close()

    async def log_in(self) -> None:
        """Log in now; for `check --connect`. Raises ApiUnavailable."""
        await self._login.token()

    async def call(
        self,
        method: str,
        template: str,
        ids: Mapping[str, object],
        *,
        fresh_until: float,
        json: Any = None,
        query: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """The answer's JSON object. Raises ApiUnavailable, ApiNotReady, ApiError, and Reject for ids that may not enter a URL."""
        url = build(self.settings.base_url, template, ids, query)
        body = None if json is None else msgspec.json.encode(json)
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        repeatable = method == "GET" or idempotency_key is not None
        # A fresh instance for each call: a shared one mixes up the attempts of concurrent callers (jd/tenacity#93).
        retrying = AsyncRetrying(
            stop=stop_after_attempt(TRIES if repeatable else 1),
            wait=wait_exponential(multiplier=0.2, max=2.0),
            retry=retry_if_exception(_worth_another_try),
            reraise=True,
        )
        async with self._room:
            try:
                async with asyncio.timeout(self.settings.timeout):
                    answer: Answer = await retrying(self._authorised, method, url, template, headers, body)
            except TimeoutError:
                raise ApiUnavailable(f"{method} {template}: no answer within {self.settings.timeout:g} s") from None
        return self._meaning(f"{method} {template}", answer, fresh_until)

    async def _authorised(
        self, method: str, url: str, template: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        """Send with the token; after a 401 or 403 renew it and try once more. Raises ApiUnavailable."""
        operation = f"{method} {template}"
        token = await self._login.token()
        answer = await self._exchange(operation, method, url, token.access, headers, body)
        if answer.status in (401, 403):
            token = await self._login.token(refused=token)
            answer = await self._exchange(operation, method, url, token.access, headers, body)
        if answer.status in UNAVAILABLE:
            raise ApiUnavailable(f"{operation}: HTTP {answer.status}", self._retry_after(answer), status=answer.status)
        return answer

    async def _exchange(
        self, operation: str, method: str, url: str, access: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        sent = {"Authorization": f"Bearer {access}", "Accept": "application/json", **headers}
        if body is not None:
            sent["Content-Type"] = "application/json"
        started, status = monotonic(), "error"
        try:
            answer = await self._wire.send(method, url, sent, body)
            status = _status_label(answer.status)
        except NoAnswer as error:
            raise ApiUnavailable(f"{operation}: {error}") from error
        finally:
            self._metrics.api_requests.labels(operation, status).inc()
            self._metrics.api_seconds.labels(operation).observe(monotonic() - started)
        if answer.status < 500 and answer.status != 429:
            self._answered()
        return answer

    async def _post_login(self, path: str, body: bytes) -> Answer:
        url = build(self.settings.base_url, path, {})
        return await self._wire.send("POST", url, {"Content-Type": "application/json", "Accept": "application/json"}, body)

    def _meaning(self, operation: str, answer: Answer, fresh_until: float) -> dict[str, Any]:
        status = answer.status
        if status == 202 or (status == 404 and self._ambient.wall() < fresh_until):
            raise ApiNotReady(operation, status)
        if not 200 <= status < 300:
            raise ApiError(operation, status, _request_id(answer))
        if not answer.body.strip():
            return {}
        try:
            value = decode(answer.body)
        except (ValueError, ArithmeticError, RecursionError):
            raise ApiError(operation, status, _request_id(answer), "the answer is no JSON") from None
        if not isinstance(value, dict):
            raise ApiError(operation, status, _request_id(answer), "the answer is no JSON object")
        return value

    def _retry_after(self, answer: Answer) -> float | None:
        said = answer.headers.get("retry-after", "").strip()
        if not said:
            return None
        try:
            return max(0.0, float(said))
        except ValueError:
            pass
        try:
            at = parsedate_to_datetime(said)
        except ValueError:
            return None
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return max(0.0, (at - datetime.fromtimestamp(self._ambient.wall(), UTC)).total_seconds())


def _worth_another_try(error: BaseException) -> bool:
    """An outage that may be over in a moment. Neither a full platform nor one that says when to come back is asked again here."""
    return isinstance(error, ApiUnavailable) and error.after is None and error.status != 429 and not error.refused


def _status_label(status: int) -> str:
    if status in (202, 401, 404, 429):
        return str(status)
    return {2: "2xx", 4: "4xx", 5: "5xx"}.get(status // 100, "error")


def _request_id(answer: Answer) -> str | None:
    """What the platform's support asks for. Nothing else of a body is repeated: it echoes the request, personal data included."""
    said = answer.headers.get("x-request-id")
    with suppress(ValueError, RecursionError):
        said = msgspec.json.decode(answer.body, type=dict[str, Any]).get("request_id", said)
    return said[:100] if isinstance(said, str) and said.isprintable() else None
