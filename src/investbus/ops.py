"""What probes, Prometheus and people may look at: /livez, /readyz, /metrics and /status on one port.

GET and HEAD only, nothing that changes anything, and no ids, so there is no login to build. `/livez` answers 503 only where a
restart would help: never because of the bus, the API, the store, a full backlog or a pause.
"""

import errno
import socket
from typing import Any, Protocol

import msgspec
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from investbus.config import Ops
from investbus.errors import ConfigError

SILENT_FOR = 60.0  # seconds without a sign of life


class Watched(Protocol):
    """What the pages show; the worker's console gives it."""

    def liveness(self) -> dict[str, str]:
        """Check to reason; an empty reason is well."""
        ...

    def readiness(self) -> dict[str, str]: ...

    def status(self) -> dict[str, Any]: ...

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Metrics and their content type, by the Accept header."""
        ...


def render_metrics(registry: Any, accept: str) -> tuple[bytes, str]:
    """The registry as Prometheus text, or OpenMetrics where `accept` asks for it."""
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


class OpsServer:
    """The HTTP side of a worker."""

    def __init__(self, settings: Ops, watched: Watched) -> None:
        self._settings = settings
        self._watched = watched
        self._runner: web.AppRunner | None = None
        self.port = settings.port

    async def start(self) -> None:
        """Listen. Raises ConfigError when the port is taken or the host is none of ours."""
        app = web.Application(middlewares=[_plain_errors])
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/status", self._status)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.host, self._settings.port)
        try:
            await site.start()
        except (OSError, UnicodeError) as error:
            await self.stop()
            raise ConfigError([_refused(self._settings, error)]) from None
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _livez(self, _: web.Request) -> web.Response:
        return _probe(self._watched.liveness())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _probe(self._watched.readiness())

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._watched.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _status(self, _: web.Request) -> web.Response:
        return _json(self._watched.status(), 200)


def _refused(settings: Ops, error: OSError | UnicodeError) -> str:
    if isinstance(error, socket.gaierror | UnicodeError) or error.errno == errno.EADDRNOTAVAIL:
        return f"ops.host: {settings.host} is no address of this machine; 127.0.0.1 is, and 0.0.0.0 means all of its addresses"
    where = f"{settings.host}:{settings.port}"
    return f"ops.port: {where} cannot be listened on: {error.strerror}; set another ops.port, or 0 for any"


def _probe(checks: dict[str, str]) -> web.Response:
    ok = not any(checks.values())
    body = {name: {"ok": True} if not reason else {"ok": False, "reason": reason} for name, reason in checks.items()}
    return _json({"ok": ok, "checks": body}, 200 if ok else 503)


def _json(value: Any, status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


@web.middleware
async def _plain_errors(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as error:
        return _json({"ok": False, "error": error.reason}, error.status)
    return response
