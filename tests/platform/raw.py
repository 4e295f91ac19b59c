"""A server that notes what arrives, byte for byte, and answers with bytes of the test's choice, broken ones included.

A library's server would tidy both up: dot segments, percent signs, a second Content-Length.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import msgspec

from tests.brokers.process import LOOPBACK, free_port


class Seen(msgspec.Struct, frozen=True):
    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes


Respond = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


def http(status: int = 200, body: bytes = b'{"ok": true}', **headers: str) -> bytes:
    """An answer as it goes over the line; header names with `_` for `-`."""
    lines = [f"HTTP/1.1 {status} Because", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


class Raw:
    """`respond` writes the answer of each call; without it every call is answered `{"ok": true}`. Logins always succeed."""

    def __init__(self, respond: Respond | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._respond = respond
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = free_port()
        self.seen: list[Seen] = []
        self.logins = 0
        self.connections = 0

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://{LOOPBACK}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port, ssl=self._tls)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                await self._answer(await _request(reader), writer)
                await writer.drain()
        writer.close()
        self._connections.discard(task)

    async def _answer(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.target.endswith("/auth/login/"):
            self.logins += 1
            writer.write(http(body=b'{"access_token": "token-canary", "expires_in": "300", "refresh_token": "refresh-canary"}'))
            return
        self.seen.append(seen)
        if self._respond is None:
            writer.write(http())
        else:
            await self._respond(seen, writer)


async def _request(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Seen(method, target, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


def giving(answer: bytes) -> Respond:
    """Every call is answered with these bytes."""

    async def respond(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return respond
