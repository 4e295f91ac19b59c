"""What a client wants of a new link, and whether it gets it."""

import time
from typing import TYPE_CHECKING, Any

from proton import symbol

from tests.brokers.servicebus.address import CBS, MANAGEMENT, path_of
from tests.brokers.servicebus.claims import Right
from tests.brokers.servicebus.faults import What
from tests.brokers.servicebus.incoming import Incoming
from tests.brokers.servicebus.outgoing import Outgoing
from tests.brokers.servicebus.requests import Answers, Requests

if TYPE_CHECKING:
    from tests.brokers.servicebus.connection import Connection, Port

SESSION_FILTER, TIMEOUT = "com.microsoft:session-filter", "com.microsoft:timeout"
PATIENCE = 65.0  # seconds of waiting for a session of a client that names none
SETTLED = 1  # snd-settle-mode of a receiver that deletes what it gets


class Refused(Exception):
    """The link is not to be."""

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(description)
        self.condition = condition
        self.description = description


def attach(connection: "Connection", link: Any) -> "Port":
    """Open the link as the client asked, or keep it waiting for a session. Raises Refused."""
    link.source.copy(link.remote_source)
    link.target.copy(link.remote_target)
    link.snd_settle_mode, link.rcv_settle_mode = link.remote_snd_settle_mode, link.remote_rcv_settle_mode
    # The role says where the entity is named: a client receives from a source and sends to a target.
    path = path_of(link.remote_source.address if link.is_sender else link.remote_target.address)
    if path.lower() == CBS or path.lower().endswith(MANAGEMENT):
        return _for_requests(connection, link, path)
    condition = connection.server.faults.refusal_of(What.ATTACHES)
    if condition is not None:
        raise Refused(condition, "refused as the test ordered")
    return _receiver(connection, link, path) if link.is_sender else _sender(connection, link, path)


def _for_requests(connection: "Connection", link: Any, path: str) -> "Port":
    entity = path.lower().removesuffix(MANAGEMENT)
    if entity != CBS:
        _demand(connection, entity, None)
        if connection.server.namespace.queue(entity) is None:
            raise _not_found(entity)
    link.open()
    if not link.is_sender:
        return Requests(connection, link, entity)
    names = {link.remote_source.address, link.remote_target.address} - {None}
    return Answers(connection, link, names)


def _sender(connection: "Connection", link: Any, path: str) -> Incoming:
    _demand(connection, path, Right.SEND)
    target = connection.server.namespace.target(path)
    if target is None:
        raise _not_found(path)
    return Incoming(connection, link, path, target)


def _receiver(connection: "Connection", link: Any, path: str) -> Outgoing:
    _demand(connection, path, Right.LISTEN)
    queue = connection.server.namespace.queue(path)
    if queue is None:
        raise _not_found(path)
    asked = _filters(link)
    if (queue.sessions is not None) != (SESSION_FILTER in asked):
        raise Refused(
            "amqp:not-allowed",
            "It is not possible for an entity that requires sessions to create a non-sessionful message receiver."
            if queue.sessions is not None
            else "A sessionful message receiver can not be created on an entity that does not require sessions.",
        )
    port = Outgoing(connection, link, path, queue, deletes=link.remote_snd_settle_mode == SETTLED)
    if queue.sessions is None:
        link.open()
        queue.add(port)
        return port
    name = asked[SESSION_FILTER]
    if name is None:
        limit = (link.remote_properties or {}).get(symbol(TIMEOUT))
        queue.sessions.wait_for_next(port, time.time() + (PATIENCE if limit is None else limit / 1000))
    elif not queue.sessions.accept(name, port, time.time()):
        raise Refused(
            "com.microsoft:session-cannot-be-locked",
            f"The requested session '{name}' cannot be accepted. It may be locked by another receiver.",
        )
    connection.server.wake(queue)
    return port


def _filters(link: Any) -> dict[str, Any]:
    data = link.remote_source.filter
    data.rewind()
    return {str(name): value for name, value in (data.get_object() if data.next() else {}).items()}


def _demand(connection: "Connection", path: str, right: Right | None) -> None:
    wanted = (right,) if right is not None else tuple(Right)
    if not any(connection.claims.allow(path, each) for each in wanted):
        names = " or ".join(str(each.name).capitalize() for each in wanted)
        raise Refused(
            "amqp:unauthorized-access",
            f"Unauthorized access. '{names}' claim(s) are required to perform this operation. Resource: '{path}'.",
        )


def _not_found(path: str) -> Refused:
    return Refused("amqp:not-found", f"The messaging entity '{path}' could not be found.")
