"""What a test may order and ask, over HTTP on a port of its own: JSON there and back, an entity named by `?entity=`."""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

import msgspec
from aiohttp import web
from proton import Message as Encoder

from tests.brokers.servicebus.message import Content, Message
from tests.brokers.servicebus.orders import Contents, Copy, Detach, Disturb, Put, Refuse
from tests.brokers.servicebus.queue import Queue
from tests.brokers.servicebus.server import LOOPBACK, Server
from tests.brokers.servicebus.settings import Entities


def application(server: Server) -> web.Application:
    control = _Control(server)
    app = web.Application(middlewares=[_explain])
    app.router.add_get("/", control.hello)
    app.router.add_post("/entities", control.create)
    app.router.add_post("/messages", control.put)
    app.router.add_get("/contents", control.contents)
    app.router.add_post("/refuse", control.refuse)
    app.router.add_post("/disturb", control.disturb)
    app.router.add_post("/heal", control.heal)
    app.router.add_post("/cut", control.cut)
    app.router.add_post("/detach", control.detach)
    app.router.add_post("/expire", control.expire)
    return app


async def serve_control(server: Server, port: int) -> None:
    runner = web.AppRunner(application(server), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()


class _Control:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def hello(self, request: web.Request) -> web.Response:
        return _json({"connections": len(self._server.connections)})

    async def create(self, request: web.Request) -> web.Response:
        self._server.namespace.create(msgspec.json.decode(await request.read(), type=Entities))
        return _json({})

    async def put(self, request: web.Request) -> web.Response:
        name = request.query["entity"]
        target = self._server.namespace.target(name)
        if target is None:
            raise ValueError(f"there is no queue or topic {name!r}")
        for message in msgspec.json.decode(await request.read(), type=list[Put]):
            target.put(_content(message))
        self._server.run()
        return _json({})

    async def contents(self, request: web.Request) -> web.Response:
        queue = self._queue(request.query["entity"])
        copies = [_copy(message) for _, message in sorted(queue.messages.items())]
        dead = [] if queue.dead is None else [_copy(message) for _, message in sorted(queue.dead.messages.items())]
        active, locked = ([copy for copy in copies if copy.locked is wanted] for wanted in (False, True))
        return _json(Contents(active, locked, dead, dict(queue.counts)))

    async def refuse(self, request: web.Request) -> web.Response:
        order = msgspec.json.decode(await request.read(), type=Refuse)
        self._server.faults.refuse(order.what, order.condition, order.seconds)
        return _json({})

    async def disturb(self, request: web.Request) -> web.Response:
        order = msgspec.json.decode(await request.read(), type=Disturb)
        for name in order.__struct_fields__:
            if getattr(order, name) is not None:
                setattr(self._server.faults, name, getattr(order, name))
        return self._flushed()

    async def heal(self, request: web.Request) -> web.Response:
        self._server.faults.heal()
        return self._flushed()

    async def cut(self, request: web.Request) -> web.Response:
        return _json({"cut": self._server.cut()})

    async def detach(self, request: web.Request) -> web.Response:
        order = msgspec.json.decode(await request.read(), type=Detach)
        path = None if order.entity is None else order.entity.lower()
        return _json({"detached": self._server.detach(path, order.condition, "detached as the test ordered")})

    async def expire(self, request: web.Request) -> web.Response:
        sequences = [int(sequence) for sequence in request.query.getall("sequence", [])]
        expired = self._queue(request.query["entity"]).expire_locks(sequences)
        self._server.run()
        return _json({"expired": expired})

    def _queue(self, name: str) -> Queue:
        queue = self._server.namespace.queue(name)
        if queue is None:
            raise ValueError(f"there is no queue or subscription {name!r}")
        return queue

    def _flushed(self) -> web.Response:
        self._server.unwritten |= self._server.connections
        self._server.run()
        return _json({})


def _content(message: Put) -> Content:
    """Written by another library than the one that reads it."""
    text = {"id": message.message_id, "group_id": message.session, "subject": message.subject}
    return Content(bytes(Encoder(body=message.body, inferred=True, properties=message.properties, **text).encode()))


def _copy(message: Message) -> Copy:
    message_id, subject, properties, body = _decoded(message.content)
    return Copy(
        sequence=message.sequence,
        count=message.count,
        locked=message.lock is not None,
        message_id=message_id,
        session=message.content.session,
        subject=subject,
        properties=properties,
        body=body,
    )


@lru_cache(maxsize=16384)  # a test looks at thousands of messages again and again, and meanwhile no client is served
def _decoded(content: Content) -> tuple[str, str | None, dict[str, str], bytes]:
    message = Encoder()
    message.decode(content.bare)
    properties = {str(name): str(value) for name, value in (message.properties or {}).items()}
    body = bytes(message.body) if isinstance(message.body, bytes | memoryview) else repr(message.body).encode()
    return str(message.id), message.subject, properties, body


def _json(answer: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


@web.middleware
async def _explain(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """A mistake of a test is a sentence, not a stack trace."""
    try:
        return await handler(request)
    except (ValueError, msgspec.DecodeError) as error:
        return web.Response(status=400, text=str(error))
