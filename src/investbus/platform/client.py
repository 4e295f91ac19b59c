"""Calls of the platform: one deadline, a few retries of its own, and answers turned into what they mean for the event.

Whether an event is tried again is not decided here: the client says what it met (`ApiUnavailable`, `ApiNotReady`, `ApiError`), and
the worker's retry policy and gates do the rest. The statuses are those of the platform's errors page, plus 429, 502 and 504.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential

from investbus.ambient import Ambient
from investbus.config import Api as ApiSettings
from investbus.errors import ApiError, ApiNotReady, ApiUnavailable
from investbus.metrics import Metrics
from investbus.platform.answers import json_object, request_id, retry_after, status_label
from investbus.platform.api import Api
from investbus.platform.login import Login
from investbus.platform.urls import build
from investbus.platform.wire import AiohttpWire, Answer, NoAnswer, Wire

TRIES = 3  # of one call, while its deadline lasts
UNAVAILABLE = (429, 502, 503, 504)
REFUSED = (401, 403)
encode = msgspec.json.Encoder(decimal_format="number").encode  # what was read as a number goes back as one


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
        """`answered` is called whenever the platform gave an answer below 500 that is not 429: its gate may open.

        401 and 403 do not count either: if they did, each probe with a revoked key would open the gate that it has closed.
        """
        self.settings = settings
        self._metrics = metrics
        self._ambient = ambient
        self._answered = answered
        self._wire = wire or AiohttpWire(settings)
        self._room = asyncio.Semaphore(settings.concurrency)
        self._login = Login(settings, self._post_login, metrics, ambient)

    def bound(self, fresh_until: float) -> Api:
        """The API for one event; until `fresh_until` (unix time) a 404 means "not yet"."""
        return Api(self, fresh_until)

    def before(self, moment: float) -> bool:
        """Whether `moment`, unix time, is still to come."""
        return self._ambient.wall() < moment

    async def close(self) -> None:
        await self._wire.close()

    async def log_in(self) -> None:
        """Log in now; for `check --connect`. Raises ApiUnavailable."""
        try:
            async with asyncio.timeout(self.settings.timeout):
                await self._login.token()
        except TimeoutError:
            raise ApiUnavailable(f"no answer to the login within {self.settings.timeout:g} s") from None

    async def knock(self) -> None:
        """Ask whether the platform answers at all, by a login that is not needed; an answer opens its gate."""
        with suppress(ApiUnavailable, TimeoutError):
            async with asyncio.timeout(self.settings.timeout):
                await self._login.token(refused=await self._login.token())
            self._answered()

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
        body = None if json is None else encode(json)
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        repeatable = method == "GET" or (method == "POST" and idempotency_key is not None)  # the platform knows keys of POST only
        # A fresh instance for each call: a shared one mixes up the attempts of concurrent callers (jd/tenacity#93).
        retrying = AsyncRetrying(
            stop=stop_after_attempt(TRIES if repeatable else 1),
            wait=wait_exponential(multiplier=0.2, max=2.0),
            retry=retry_if_exception(_worth_another_try),
            reraise=True,
        )
        try:
            async with asyncio.timeout(self.settings.timeout), self._room:
                answer: Answer = await retrying(self._authorised, method, url, template, headers, body)
        except TimeoutError:
            raise ApiUnavailable(f"{method} {template}: no answer within {self.settings.timeout:g} s") from None
        return self._meaning(method, template, answer, fresh_until)

    async def _authorised(self, method: str, url: str, template: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Send with the token; after a 401 or 403 renew it and try once more. Raises ApiUnavailable."""
        operation = f"{method} {template}"
        token = await self._login.token()
        answer = await self._exchange(operation, method, url, token.access, headers, body)
        if answer.status in REFUSED:
            token = await self._login.token(refused=token)
            answer = await self._exchange(operation, method, url, token.access, headers, body)
        if answer.status in UNAVAILABLE:
            after = retry_after(answer, self._ambient.wall())
            raise ApiUnavailable(f"{operation}: HTTP {answer.status}", after, status=answer.status)
        return answer

    async def _exchange(
        self, operation: str, method: str, url: str, access: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        sent = {"Authorization": f"Bearer {access}", "Accept": "application/json", **headers}
        if body is not None:
            sent["Content-Type"] = "application/json"
        started, status = self._ambient.monotonic(), "error"
        try:
            answer = await self._wire.send(method, url, sent, body)
            status = status_label(answer.status)
        except NoAnswer as error:
            raise ApiUnavailable(f"{operation}: {error}") from None
        finally:
            self._metrics.called(operation, status, self._ambient.monotonic() - started)
        if answer.status < 500 and answer.status not in (*REFUSED, 429):
            self._answered()
        return answer

    async def _post_login(self, path: str, body: bytes) -> Answer:
        url = build(self.settings.base_url, path, {})
        return await self._wire.send("POST", url, {"Content-Type": "application/json", "Accept": "application/json"}, body)

    def _meaning(self, method: str, template: str, answer: Answer, fresh_until: float) -> dict[str, Any]:
        operation, status = f"{method} {template}", answer.status
        if status == 202 or (status == 404 and self._ambient.wall() < fresh_until):
            raise ApiNotReady(operation, status)
        if not 200 <= status < 300:
            raise ApiError(operation, status, request_id(answer))
        if not answer.body.strip() and (method != "GET" or status == 204):
            return {}
        return json_object(operation, answer)


def _worth_another_try(error: BaseException) -> bool:
    """An outage that may be over in a moment. Neither a full platform nor one that says when to come back is asked again here."""
    return isinstance(error, ApiUnavailable) and error.after is None and error.status != 429 and not error.refused
