"""Keys, tokens and personal data: whatever goes wrong, none of them is in an error, its stack, a log line or a metric."""

import io
import logging
import traceback
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
import structlog
from prometheus_client import generate_latest

from investbus.errors import InvestbusError
from investbus.platform.wire import NoAnswer
from tests.platform.raw import Raw, giving, http
from tests.platform.rig import Rig, never, reply, tokens, virtual

ECHO = {
    "title": "Validation",
    "body": {"name": "person-canary", "iban": "person-canary"},
    "detail": [{"msg": "person-canary"}],
    "request_id": "q-1",
}
CALLS: list[Callable[[Rig], Any]] = [
    lambda rig: rig.api.portfolio("Pcanary"),
    lambda rig: rig.api.post("/users/", json={"name": "person-canary"}, idempotency_key="key-of-canary"),
    lambda rig: rig.api.deposit(
        portfolio="Pcanary", amount=Decimal("31415926.53"), currency="EUR", idempotency_key="key-of-canary"
    ),
    lambda rig: anext(rig.api.find("users", "external_id eq {id}", id="Ucanary")),
    lambda rig: rig.client.log_in(),
]
FAILURES: list[Any] = [
    *(reply(status, ECHO) for status in (202, 302, 400, 401, 404, 409, 422, 429, 500, 503)),
    NoAnswer("Reset"),
    never,
]
FAILURES += [reply(body=b'{"name": "person-canary"'), reply(json=["person-canary"])]
SECRETS = ("canary", "31415926")


def assert_clean(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """All that is logged, at every level, by everything in the process."""
    written, before = io.StringIO(), structlog.get_config()
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(written)])
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(written))
    yield written
    structlog.configure(**before)


async def _meet(rig: Rig, call: Callable[[Rig], Any]) -> None:
    try:
        await call(rig)
    except InvestbusError as error:
        assert_clean("".join(traceback.format_exception(error)))
        assert_clean(repr(error) + str(error))


@pytest.mark.parametrize("failure", FAILURES, ids=range(len(FAILURES)))
@pytest.mark.parametrize("where", ["call", "login", "renewal"])
@virtual
async def test_nothing_of_them_comes_out(failure: Any, where: str, logged: io.StringIO) -> None:
    for call in CALLS:
        good = tokens("token-canary", refresh="refresh-canary")
        logins = {"call": (good,), "login": (failure,), "renewal": (good, failure)}[where]
        rig = Rig(reply(401, ECHO) if where == "renewal" else failure, logins=logins)
        await _meet(rig, call)
        assert_clean(generate_latest(rig.metrics.registry).decode())
    assert_clean(logged.getvalue())


async def test_nor_over_real_connections(connect: Callable[..., Rig], logged: io.StringIO) -> None:
    broken = b"HTTP/1.1 200 OK\r\nX-Name: person-canary\r\nContent-Length: 90\r\n\r\nperson-canary"
    for answer in (http(400, b'{"name": "person-canary"}'), http(302, location="http://canary.invalid/"), broken):
        async with Raw(giving(answer)) as server:
            rig = connect(server.url, timeout=0.5)
            for call in CALLS:
                await _meet(rig, call)
            assert_clean(generate_latest(rig.metrics.registry).decode())
    assert_clean(logged.getvalue())
