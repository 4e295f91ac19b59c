"""How bytes get to the platform and back. What they mean is the client's affair, so that tests can put answers here."""

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    import aiohttp

LARGEST_ANSWER = 32 * 1024 * 1024  # bytes, unpacked: an answer that never ends must not eat the worker


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoAnswer(Exception):
    """The platform gave no answer: no connection, time-out, reset, or an answer without end."""


class Wire(Protocol):
    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Send to exactly this URL; redirects are not followed. Raises NoAnswer."""
        ...

    async def close(self) -> None: ...


class AiohttpWire:
    """aiohttp, with one connection pool for the worker. TLS is verified; neither proxies nor cookies are taken from anywhere."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._session: aiohttp.ClientSession | None = None

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        import aiohttp
        from yarl import URL

        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._concurrency)
            timeout = aiohttp.ClientTimeout(total=None)  # the caller holds the deadline
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout)
        exact = URL(url, encoded=True)  # as built: no dot segments resolved, nothing unquoted
        try:
            async with self._session.request(
                method, exact, headers=dict(headers), data=body, allow_redirects=False
            ) as response:
                content = await _read(response)
                return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, content)
        except (aiohttp.ClientError, ssl.SSLError, OSError, TimeoutError) as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _read(response: "aiohttp.ClientResponse") -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > LARGEST_ANSWER:
            raise NoAnswer(f"the answer is larger than {LARGEST_ANSWER} bytes")
    return bytes(content)
