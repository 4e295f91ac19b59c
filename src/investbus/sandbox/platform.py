"""The pretend platform as a server: login, the REST resources, faults, and a ledger of what was asked.

It binds to loopback and nowhere else, since `/_sandbox/` has no login: a test or a demo in another process orders
faults and reads the ledgers there.
"""

import time
from types import TracebackType
from typing import Literal, Self

import msgspec
from aiohttp import web

from investbus.sandbox.answers import Handler, problem, reply
from investbus.sandbox.faults import Fault, Faults, Seconds, strike
from investbus.sandbox.ledger import Call, Calls, Effects
from investbus.sandbox.rest import Rest
from investbus.sandbox.sessions import Sessions
from investbus.sandbox.world import World

HOST = "127.0.0.1"
CREDENTIALS = ("sandbox-key-id", "sandbox-key")  # opens nothing but a sandbox
CONTROL = "/_sandbox/"


class LogIn(msgspec.Struct):
    access_key_id: str
    secret_access_key: str


class Renewal(msgspec.Struct):
    refresh_token: str


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /_sandbox/faults` takes. `clear` comes first, so that one order can replace another."""

    clear: bool = False
    faults: list[Fault] = []
    down: bool | None = None
    revoke: Literal["access", "all"] | None = None
    token_seconds: Seconds | None = None


class Platform:
    """`async with Platform(World(seed=1)) as platform: platform.url`. Port 0 is any free one."""

    def __init__(
        self,
        world: World,
        *,
        port: int = 0,
        credentials: tuple[str, str] = CREDENTIALS,
        token_seconds: float = 300.0,
        calls_kept: int = 10_000,
    ) -> None:
        self.world = world
        self.faults = Faults()
        self.sessions = Sessions(credentials, token_seconds)
        self.calls = Calls(calls_kept)
        self.effects = Effects()
        self._port = port
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=0.1)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, HOST, self._port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        login = [web.post("/auth/login/", self._log_in), web.post("/auth/refresh-token/", self._renew)]
        documented = [*login, *Rest(self.world, self.effects).routes()]
        bare = [web.route(each.method, each.path.rstrip("/"), each.handler) for each in documented]
        application = web.Application(middlewares=[self._note, self._strike, self._admit])
        application.add_routes(
            [
                *documented,
                *bare,  # the documentation writes paths with and without the last slash
                web.get(CONTROL + "faults", self._show_faults),
                web.post(CONTROL + "faults", self._order_faults),
                web.get(CONTROL + "calls", self._show_calls),
                web.get(CONTROL + "effects", self._show_effects),
            ]
        )
        return application

    # ---- around every call, from the outside in

    @web.middleware
    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(CONTROL):
            return await handler(request)
        key = request.headers.get("Idempotency-Key")
        call = Call(request.method, request.path, _operation(request), time.time(), key)
        self.calls.begin(call)
        try:
            answer = await handler(request)
        except web.HTTPException as refused:
            answer = problem(refused.status, refused.reason, "There is nothing at this path for this method.")
        finally:
            call.ended = time.time()
        if request.transport is not None and not request.transport.is_closing():
            call.status = answer.status
        return answer

    @web.middleware
    async def _strike(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(CONTROL):
            return await handler(request)
        fault = self.faults.take(request.method, request.path)
        return await handler(request) if fault is None else await strike(fault, request, handler)

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith((CONTROL, "/auth/")):
            return await handler(request)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not self.sessions.admits(token):
            return problem(401, "Unauthorized", "The access token is missing, expired or revoked.")
        return await handler(request)

    # ---- login

    async def _log_in(self, request: web.Request) -> web.Response:
        try:
            asked = msgspec.json.decode(await request.read(), type=LogIn)
        except msgspec.DecodeError as error:
            return problem(400, "Bad Request", str(error))
        tokens = self.sessions.log_in(asked.access_key_id, asked.secret_access_key)
        return reply(tokens) if tokens else problem(401, "Unauthorized", "Unknown access key.")

    async def _renew(self, request: web.Request) -> web.Response:
        try:
            asked = msgspec.json.decode(await request.read(), type=Renewal)
        except msgspec.DecodeError as error:
            return problem(400, "Bad Request", str(error))
        tokens = self.sessions.renew(asked.refresh_token)
        return reply(tokens) if tokens else problem(401, "Unauthorized", "Unknown refresh token.")

    # ---- for other processes

    async def _show_faults(self, _request: web.Request) -> web.Response:
        return reply({"down": self.faults.down, "faults": self.faults.active()})

    async def _order_faults(self, request: web.Request) -> web.Response:
        try:
            order = msgspec.json.decode(await request.read(), type=Order)
        except msgspec.DecodeError as error:
            return problem(400, "Bad Request", str(error))
        if order.clear:
            self.faults.clear()
        for fault in order.faults:
            self.faults.add(fault)
        if order.down is not None:
            self.faults.down = order.down
        if order.token_seconds is not None:
            self.sessions.lifetime = order.token_seconds
        if order.revoke is not None:
            self.sessions.revoke(order.revoke)
        return await self._show_faults(request)

    async def _show_calls(self, _request: web.Request) -> web.Response:
        return reply({"counts": self.calls.counts, "calls": list(self.calls.recent)})

    async def _show_effects(self, _request: web.Request) -> web.Response:
        return reply(self.effects.all)


def _operation(request: web.Request) -> str:
    """`GET /portfolios/{id}/`: one name for calls of one kind, with or without the last slash."""
    resource = request.match_info.route.resource
    return f"{request.method} {resource.canonical.rstrip('/')}/" if resource is not None else "other"
