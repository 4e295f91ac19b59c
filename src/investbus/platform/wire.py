"""How bytes get to the platform and back. What they mean is the client's affair, so that tests can put answers here."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    import aiohttp

LARGEST_ANSWER = 8 * 1024 * 1024  # bytes, unpacked: an answer that never ends must not eat the worker


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoAnswer(Exception):
    """The platform gave no answer: no connection, a reset, no HTTP, or an answer without end."""


class Wire(Protocol):
    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Send once, to exactly this URL; redirects are not followed. Raises NoAnswer."""
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
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._concurrency),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # the caller holds the deadline
                middlewares=(_once,),
            )
        exact = URL(url, encoded=True)  # as built: no dot segments resolved, nothing unquoted
        try:
            async with self._session.request(method, exact, headers=dict(headers), data=body, allow_redirects=False) as response:
                content = await _read(response)
                return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, content)
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(_why(error)) from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _once(request: "aiohttp.ClientRequest", send: "aiohttp.ClientHandlerType") -> "aiohttp.ClientResponse":
    """Ends a request that got no answer before aiohttp sees the error: it would send a GET or a DELETE again by itself."""
    import aiohttp

    try:
        return await send(request)
    except (aiohttp.ClientError, OSError) as error:
        raise NoAnswer(_why(error)) from None


async def _read(response: "aiohttp.ClientResponse") -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > LARGEST_ANSWER:
            raise NoAnswer(f"the answer is larger than {LARGEST_ANSWER} bytes")
    return bytes(content)


def _why(error: "aiohttp.ClientError | OSError") -> str:
    """The kind of error, and what the system said. aiohttp's own texts may quote the URL or what the server sent."""
    import aiohttp

    said = str(error) if isinstance(error, aiohttp.ClientConnectorError) else getattr(error, "strerror", None)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
