"""The operations of `ENTITY/$management` that receivers need."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from proton import UNDESCRIBED, Array, Data, timestamp

from tests.brokers.servicebus.faults import What
from tests.brokers.servicebus.outgoing import LOST, MESSAGE_LOCK_LOST, NOT_IMPLEMENTED, SESSION_LOCK_LOST, lost_of
from tests.brokers.servicebus.queue import Outcome, Queue

if TYPE_CHECKING:
    from tests.brokers.servicebus.server import Server

PREFIX = "com.microsoft:"
OUTCOMES = {"completed": Outcome.COMPLETED, "abandoned": Outcome.ABANDONED, "suspended": Outcome.DEAD_LETTERED}


class Answer(NamedTuple):
    """Codes as in HTTP; a body is a map."""

    code: int
    description: str
    condition: str | None = None
    body: Any = None


Body = Mapping[str, Any]


def answer(server: "Server", entity: str, operation: str, body: Any) -> Answer:
    """Do what is asked of an entity that may have gone since the link was opened."""
    queue = server.namespace.queue(entity)
    if queue is None:
        return Answer(404, f"The messaging entity '{entity}' could not be found.", "amqp:not-found")
    name = operation.removeprefix(PREFIX)
    ordered = server.faults.refusal_of(What.RENEWALS) if name in ("renew-lock", "renew-session-lock") else None
    ordered = server.faults.refusal_of(What.SETTLES) if name == "update-disposition" else ordered
    if ordered is not None:
        return Answer(503, "refused as the test ordered", ordered)
    if name not in OPERATIONS:
        return Answer(501, f"{operation} is not emulated", NOT_IMPLEMENTED)
    try:
        return OPERATIONS[name](queue, server.now(), body or {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Answer(400, f"{operation}: {error!r}", "amqp:invalid-field")


def _renew_lock(queue: Queue, now: float, body: Body) -> Answer:
    until = [queue.renew(_token(token)) for token in body["lock-tokens"]]
    if None in until:
        return Answer(410, LOST, MESSAGE_LOCK_LOST)
    expirations = [int(each * 1000) for each in until if each is not None]
    return Answer(200, "OK", None, {"expirations": Array(UNDESCRIBED, Data.TIMESTAMP, *expirations)})


def _update_disposition(queue: Queue, now: float, body: Body) -> Answer:
    outcome = OUTCOMES.get(body["disposition-status"])
    if outcome is None:
        return Answer(501, "deferred messages are not emulated", NOT_IMPLEMENTED)
    reason, description = body.get("deadletter-reason"), body.get("deadletter-description")
    settled = [queue.settle(_token(token), outcome, reason, description) for token in body["lock-tokens"]]
    return Answer(200, "OK") if all(settled) else Answer(410, LOST, lost_of(queue))


def _peek_message(queue: Queue, now: float, body: Body) -> Answer:
    first, most, session = body["from-sequence-number"], body["message-count"], body.get("session-id")
    seen = [
        message
        for sequence, message in sorted(queue.messages.items())
        if sequence >= first and session in (None, message.content.session)
    ]
    messages = [{"message": message.wire()} for message in seen[:most]]
    return Answer(200, "OK", None, {"messages": messages}) if messages else Answer(204, "No Content")


def _renew_session_lock(queue: Queue, now: float, body: Body) -> Answer:
    until = queue.sessions.renew(body["session-id"], now) if queue.sessions is not None else None
    if until is None:
        return Answer(410, "The session lock was lost. Request a new session receiver.", SESSION_LOCK_LOST)
    queue.counts["renewed"] += 1
    return Answer(200, "OK", None, {"expiration": timestamp(int(until * 1000))})


def _get_session_state(queue: Queue, now: float, body: Body) -> Answer:
    if queue.sessions is None:
        return Answer(400, "the entity has no sessions", "amqp:not-allowed")
    return Answer(200, "OK", None, {"session-state": queue.sessions.named(body["session-id"]).state})


def _set_session_state(queue: Queue, now: float, body: Body) -> Answer:
    if queue.sessions is None:
        return Answer(400, "the entity has no sessions", "amqp:not-allowed")
    state = body["session-state"]
    queue.set_state(queue.sessions.named(body["session-id"]), None if state is None else bytes(state))
    return Answer(200, "OK")


def _token(token: UUID) -> str:
    """The delivery tag that the client made this of."""
    return token.bytes_le.decode("ascii")


OPERATIONS: dict[str, Callable[[Queue, float, Body], Answer]] = {
    "renew-lock": _renew_lock,
    "update-disposition": _update_disposition,
    "peek-message": _peek_message,
    "renew-session-lock": _renew_session_lock,
    "get-session-state": _get_session_state,
    "set-session-state": _set_session_state,
}
