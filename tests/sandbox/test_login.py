"""Who gets in, for how long, and how a session is renewed or ended."""

import aiohttp
import pytest

from investbus.sandbox import CREDENTIALS, Platform
from investbus.sandbox.sessions import Sessions
from tests.sandbox.conftest import log_in, status_of


async def test_login_answers_as_documented(anyone: aiohttp.ClientSession) -> None:
    tokens = await log_in(anyone)
    assert tokens.keys() == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", "300")
    assert await status_of(anyone, "/portfolios/", tokens["access_token"]) == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer made-up"}, {"Authorization": "Basic Zm9v"}])
async def test_every_call_needs_a_token(anyone: aiohttp.ClientSession, headers: dict[str, str]) -> None:
    for path in ("/portfolios/", "/users/U1/", "/nowhere"):
        async with anyone.get(path, headers=headers) as answer:
            assert answer.status == 401
            assert (await answer.json()).keys() == {"title", "description", "request_id", "timestamp"}


async def test_wrong_credentials_are_refused(anyone: aiohttp.ClientSession) -> None:
    assert (await log_in(anyone, (CREDENTIALS[0], "wrong")))["title"] == "Unauthorized"
    async with anyone.post("/auth/login/", json={"access_key_id": 1}) as answer:
        assert answer.status == 400


async def test_a_refresh_token_renews_once(anyone: aiohttp.ClientSession) -> None:
    body = {"refresh_token": (await log_in(anyone))["refresh_token"]}
    async with anyone.post("/auth/refresh-token/", json=body) as answer:
        assert await status_of(anyone, "/portfolios/", (await answer.json())["access_token"]) == 200
    async with anyone.post("/auth/refresh-token/", json=body) as answer:
        assert answer.status == 401


async def test_revoked_tokens_end_at_once(platform: Platform, anyone: aiohttp.ClientSession) -> None:
    tokens = await log_in(anyone)
    platform.sessions.revoke("access")
    assert await status_of(anyone, "/portfolios/", tokens["access_token"]) == 401
    async with anyone.post("/auth/refresh-token/", json={"refresh_token": tokens["refresh_token"]}) as answer:
        tokens = await answer.json()
    platform.sessions.revoke()
    async with anyone.post("/auth/refresh-token/", json={"refresh_token": tokens["refresh_token"]}) as answer:
        assert answer.status == 401


def test_a_token_lives_as_long_as_was_set_when_it_was_given() -> None:
    now = 1000.0
    sessions = Sessions(("id", "key"), lifetime=300.0, clock=lambda: now)
    first = sessions.log_in("id", "key")
    sessions.lifetime = 2.5
    second = sessions.log_in("id", "key")
    assert first is not None
    assert second is not None
    assert second["expires_in"] == "2.5"
    now += 2.5
    assert sessions.admits(first["access_token"])
    assert not sessions.admits(second["access_token"])
    now = 1300.0
    assert not sessions.admits(first["access_token"])
