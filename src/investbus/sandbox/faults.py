"""Faults to order: which calls fail, how, and for how long.

A fault separates what the platform *does* from what the caller *sees*: `apply` lets the call take effect although its
answer is lost or wrong. That is the case that doubles payments, and no real platform produces it on request.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Literal

import msgspec
from aiohttp import web

from investbus.sandbox.answers import Handler, problem

Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way to fail.

    `path` is compared part by part, `*` within a part: `/portfolios/*/` is one portfolio, a bare `*` is every call. The
    fault is used `times` times, or for `seconds` from the order on; without either until it is cleared. `status` 0 is
    the real answer.
    """

    path: str = "*"
    method: str = "*"
    status: Annotated[int, msgspec.Meta(ge=0, le=599)] = 0
    headers: Mapping[str, str] = {}  # Retry-After, Location, Content-Type
    body: str | None = None  # None: an error in the documented shape
    delay: Seconds = 0.0  # before anything happens
    drip: Seconds = 0.0  # between two bytes of the answer
    ending: Literal["answer", "hang", "reset"] = "answer"
    apply: bool = False
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    seconds: Seconds | None = None

    def matches(self, method: str, path: str) -> bool:
        if self.method not in ("*", method):
            return False
        if self.path == "*":
            return True
        pattern, parts = self.path.strip("/").split("/"), path.strip("/").split("/")
        return len(pattern) == len(parts) and all(map(fnmatchcase, parts, pattern))


OUTAGE = Fault(status=503)


class Faults:
    """What was ordered. The oldest fault that matches a call is used; `down` comes before all of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.down = False
        self._clock = clock
        self._ordered: list[_Ordered] = []

    def add(self, fault: Fault) -> None:
        until = None if fault.seconds is None else self._clock() + fault.seconds
        self._ordered.append(_Ordered(fault, fault.times, until))

    def clear(self) -> None:
        """The platform is well again."""
        self.down = False
        self._ordered.clear()

    def active(self) -> list[Fault]:
        """What can still strike."""
        now = self._clock()
        self._ordered = [each for each in self._ordered if each.left != 0 and (each.until is None or now < each.until)]
        return [each.fault for each in self._ordered]

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for this call, used up by one."""
        if self.down:
            return OUTAGE
        self.active()
        for each in self._ordered:
            if each.fault.matches(method, path):
                if each.left is not None:
                    each.left -= 1
                return each.fault
        return None


class _Ordered(msgspec.Struct):
    fault: Fault
    left: int | None
    until: float | None


async def strike(fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer `request` as `fault` says."""
    await asyncio.sleep(fault.delay)
    answer = await _answer(fault, request, handler)
    match fault.ending:
        case "hang":
            await asyncio.Event().wait()
        case "reset":
            _reset(request)
        case "answer" if fault.drip:
            return await _drip(request, answer, fault.drip)
    return answer


async def _answer(fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
    wanted = fault.status == 0 and fault.ending == "answer"
    real = await handler(request) if wanted or fault.apply else web.Response()
    if fault.status == 0:
        return real
    if fault.body is None:
        return problem(fault.status, "Ordered fault", "This failure was asked for.", fault.headers)
    return web.Response(status=fault.status, headers=fault.headers, body=fault.body.encode())


def _reset(request: web.Request) -> None:
    """Close with RST, not FIN: the caller learns nothing about what became of its call."""
    if request.transport is not None:
        connection: socket.socket = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()


async def _drip(request: web.Request, answer: web.StreamResponse, pause: float) -> web.StreamResponse:
    body = bytes(answer.body) if isinstance(answer, web.Response) and isinstance(answer.body, bytes) else b""
    slow = web.StreamResponse(status=answer.status, headers=answer.headers)
    slow.content_length = len(body)
    await slow.prepare(request)
    for position in range(len(body)):
        await slow.write(body[position : position + 1])
        await asyncio.sleep(pause)
    return slow
