"""A client over a wire that answers as the test says, with its metrics and clock at hand."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from investbus.ambient import Ambient
from investbus.config import Api as ApiSettings
from investbus.metrics import Metrics
from investbus.platform.client import Client
from investbus.platform.wire import Answer, NoAnswer, Wire
from tests.lanes import virtually

BASE: dict[str, Any] = {"base_url": "https://platform.invalid", "access_key_id": "id-canary", "secret_access_key": "key-canary"}
MIDNIGHT = 1_767_225_600.0  # 2026-01-01, unix time at which every rig starts
OLD = 0.0  # `fresh_until` of an event that a 404 is final for
YOUNG = MIDNIGHT + 1e6


class Sent(msgspec.Struct, frozen=True):
    """One request at the wire."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query, strict_parsing=True))

    @property
    def token(self) -> str:
        return self.headers["Authorization"].removeprefix("Bearer ")

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body or b"null")


Reply = Answer | NoAnswer | Callable[[Sent], Awaitable[Answer]]


def reply(status: int = 200, json: Any = ..., *, body: bytes | None = None, **headers: str) -> Answer:
    """An answer; header names with `_` for `-`."""
    content = b'{"ok": true}' if json is ... else msgspec.json.encode(json)
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, content if body is None else body)


def tokens(access: str, *, expires_in: Any = "300", refresh: str | None = "r") -> Answer:
    return reply(json={"access_token": access, "token_type": "Bearer", "expires_in": expires_in, "refresh_token": refresh})


class Script:
    """A wire. Calls are answered by `plan` in turn and then by its last; logins likewise, or by tokens `t1`, `t2` and so on."""

    def __init__(self, plan: tuple[Reply, ...], logins: tuple[Reply, ...] = ()) -> None:
        self.plan = list(plan) or [reply()]
        self.login_plan = list(logins)
        self.calls: list[Sent] = []
        self.logins: list[Sent] = []

    async def send(self, method: str, url: str, headers: Any, body: bytes | None) -> Answer:
        sent = Sent(method, url, dict(headers), body)
        await asyncio.sleep(0)  # as over any network, others run meanwhile
        if "/auth/" in sent.path:
            self.logins.append(sent)
            said = _next(self.login_plan) if self.login_plan else tokens(f"t{len(self.logins)}")
        else:
            self.calls.append(sent)
            said = _next(self.plan)
        if isinstance(said, NoAnswer):
            raise said
        return said if isinstance(said, Answer) else await said(sent)

    async def close(self) -> None:
        """Nothing is open."""


def _next(plan: list[Reply]) -> Reply:
    return plan.pop(0) if len(plan) > 1 else plan[0]


class Rig:
    """Inside a running loop. Without a `wire` the client makes its own, over aiohttp."""

    def __init__(self, *plan: Reply, logins: tuple[Reply, ...] = (), real: bool = False, **settings: Any) -> None:
        self.script = Script(plan, logins)
        self.metrics = Metrics("memory")
        self.answered = 0
        self.clock = asyncio.get_running_loop().time
        self._begun = self.clock()
        wire: Wire | None = None if real else self.script
        ambient = Ambient(self.clock, self.wall, lambda: 0.0)
        self.client = Client(ApiSettings(**(BASE | settings)), self.metrics, ambient, answered=self._answered, wire=wire)
        self.api = self.client.bound(OLD)

    def wall(self) -> float:
        return MIDNIGHT + self.clock() - self._begun

    def counted(self, name: str, **labels: str) -> float:
        """A sample of the metrics, 0 where it is not there."""
        return self.metrics.registry.get_sample_value(f"investbus_{name}", labels) or 0.0

    def statuses(self) -> dict[tuple[str, str], float]:
        """`api_requests_total` as `(operation, status)`: count."""
        rows = (sample for family in self.metrics.registry.collect() for sample in family.samples)
        return {
            (row.labels["operation"], row.labels["status"]): row.value for row in rows if row.name == "investbus_api_requests_total"
        }

    def logins(self) -> tuple[float, float, float]:
        """`api_logins_total`: ok, refused, error."""
        ok, refused, error = (self.counted("api_logins_total", result=result) for result in ("ok", "refused", "error"))
        return ok, refused, error

    def _answered(self) -> None:
        self.answered += 1


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """An async test in virtual time: waiting takes none. One that would wait for ever fails."""

    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(1e6):
                await test(*args, **fixtures)

        virtually(bounded)

    return run


async def never(_sent: Sent) -> Answer:
    """A platform that hangs."""
    await asyncio.Event().wait()
    raise AssertionError


async def fate(calls: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """What became of calls made at once: results, and exceptions as values."""
    return await asyncio.gather(*calls, return_exceptions=True)
