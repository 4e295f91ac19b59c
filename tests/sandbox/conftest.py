"""A running pretend platform and a caller who is logged in."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from investbus.sandbox import CREDENTIALS, Platform, World

Tokens = dict[str, str]


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    async with Platform(World(seed=7, portfolios=45)) as running:
        yield running


@pytest.fixture
async def anyone(platform: Platform) -> AsyncIterator[aiohttp.ClientSession]:
    """A caller without a token."""
    async with aiohttp.ClientSession(platform.url) as session:
        yield session


@pytest.fixture
async def caller(platform: Platform, anyone: aiohttp.ClientSession) -> aiohttp.ClientSession:
    anyone.headers["Authorization"] = f"Bearer {(await log_in(anyone))['access_token']}"
    return anyone


async def log_in(session: aiohttp.ClientSession, credentials: tuple[str, str] = CREDENTIALS) -> Tokens:
    key_id, key = credentials
    async with session.post("/auth/login/", json={"access_key_id": key_id, "secret_access_key": key}) as answer:
        tokens: Tokens = await answer.json()
    return tokens


async def status_of(session: aiohttp.ClientSession, path: str, token: str | None = None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with session.get(path, headers=headers) as answer:
        return answer.status


async def get(session: aiohttp.ClientSession, path: str, **query: str) -> Any:
    async with session.get(path, params=query) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()
