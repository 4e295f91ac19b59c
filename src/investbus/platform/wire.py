"""How bytes get to the platform and back. What they mean is the client's affair, so that tests can put answers here."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from investbus.config import Api as ApiSettings
from investbus.errors import ConfigError

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
    """aiohttp, with one connection pool for the worker. TLS is verified; no cookies are kept, and no proxy is taken from the
    environment, where it would also see the keys of a platform that it is not for."""

    def __init__(self, settings: ApiSettings) -> None:
        """Raises ConfigError where `ca_file` holds no certificates."""
        self._concurrency = settings.concurrency
        self._proxy = settings.proxy
        self._tls = True if settings.ca_file is None else _trusting(settings.ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        import aiohttp
        from yarl import URL

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._concurrency, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # the caller holds the deadline
                middlewares=(_once,),
            )
        exact = URL(url, encoded=True)  # as built: no dot segments resolved, nothing unquoted
        try:
            async with self._session.request(
                method, exact, headers=dict(headers), data=body, allow_redirects=False, proxy=self._proxy
            ) as response:
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


def _trusting(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"api.ca_file {ca_file}: no CA certificates in it: {error}"]) from error


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

    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy (api.proxy) answered {error.status}"
    said = str(error) if isinstance(error, aiohttp.ClientConnectorError) else getattr(error, "strerror", None)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
