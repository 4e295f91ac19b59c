"""Answers of the platform for the `bus` fixture. They stand below the real client, so its login, retries and errors are real."""

from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from investbus.platform.wire import Answer

TOKEN = {"access_token": "virtual", "token_type": "Bearer", "expires_in": "300", "refresh_token": "virtual"}
encode = msgspec.json.Encoder(decimal_format="number").encode


class Call(msgspec.Struct, frozen=True):
    """One request that reached the platform. Logins are not listed."""

    method: str
    path: str
    query: Mapping[str, str]
    json: Any
    idempotency_key: str | None


class Unanswered(AssertionError):
    """The handler called something that the test said nothing about."""


class _Answers(msgspec.Struct):
    first: Answer
    left: int | None  # how often `first` is given; None: always
    then: Answer | None


class FakePlatform:
    """`bus.api`: `get("/portfolios/P1/", json=…)` says what a call is answered; `calls` what was called."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.unanswered: list[str] = []
        self._answers: dict[tuple[str, str], deque[_Answers]] = {}

    def get(self, path: str, **answer: Any) -> None:
        """Answer `GET path` with `json` or `status`; `times` limits it, `then` is the JSON that follows."""
        self._say("GET", path, **answer)

    def post(self, path: str, **answer: Any) -> None:
        """As `get`, for POST."""
        self._say("POST", path, **answer)

    def patch(self, path: str, **answer: Any) -> None:
        """As `get`, for PATCH."""
        self._say("PATCH", path, **answer)

    def delete(self, path: str, **answer: Any) -> None:
        """As `get`, for DELETE."""
        self._say("DELETE", path, **answer)

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """The wire of the client."""
        split = urlsplit(url)
        path = split.path
        if path.startswith("/auth/") and (method, path) not in self._answers:
            return Answer(200, {}, encode(TOKEN))
        if not path.startswith("/auth/"):
            value = None if body is None else msgspec.json.decode(body)
            call = Call(method, path, dict(parse_qsl(split.query)), value, headers.get("Idempotency-Key"))
            self.calls.append(call)
        return self._next(method, path)

    async def close(self) -> None:
        """Nothing to close."""

    def _say(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        status: int = 200,
        times: int | None = None,
        then: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        first = Answer(status, lower, b"" if json is None else encode(json))
        follow = None if then is None else Answer(200, {}, encode(then))
        rows = self._answers.setdefault((method, path), deque())
        if times is None:
            rows.clear()  # what is said last, and for good, replaces what was said before
        rows.append(_Answers(first, times, follow))

    def _next(self, method: str, path: str) -> Answer:
        rows = self._answers.get((method, path), deque())
        while rows:
            row = rows[0]
            if row.left is None:
                return row.first
            if row.left > 0:
                row.left -= 1
                return row.first
            if row.then is not None:
                return row.then
            rows.popleft()
        self.unanswered.append(f"{method} {path}")
        raise Unanswered(f'{method} {path} has no answer: say bus.api.{method.lower()}("{path}", json=…)')
