"""Pairs of links for requests and their answers: `$cbs` for tokens, `ENTITY/$management` for the rest."""

import os
import time
from typing import TYPE_CHECKING, Any

from proton import Delivery, Message, int32, symbol

from tests.brokers.servicebus.address import CBS
from tests.brokers.servicebus.faults import What
from tests.brokers.servicebus.management import answer

if TYPE_CHECKING:
    from tests.brokers.servicebus.connection import Connection

CREDIT = 100


class Answers:
    """The link back. It is found by the addresses that its client gave it."""

    def __init__(self, connection: "Connection", link: Any, names: set[str]) -> None:
        self.path: str | None = None
        self._connection = connection
        self._names = names
        connection.replies |= dict.fromkeys(names, link)

    def on_flow(self) -> None:
        self._connection.touch()

    def on_delivery(self, delivery: Any) -> None:
        """Answers are sent settled: nothing comes back for them."""

    def close(self) -> None:
        for name in self._names:
            self._connection.replies.pop(name, None)


class Requests:
    """The link there. `entity` is what the requests are about; `$cbs` for tokens."""

    def __init__(self, connection: "Connection", link: Any, entity: str) -> None:
        self.path: str | None = None
        self._connection = connection
        self._link = link
        self._entity = entity
        link.flow(CREDIT)

    def on_flow(self) -> None:
        """Nothing follows from what a sender says of its credit."""

    def close(self) -> None:
        """Nothing is held for it."""

    def on_delivery(self, delivery: Any) -> None:
        if not delivery.readable or delivery.partial:
            return
        request = Message()
        request.decode(self._link.recv(delivery.pending) or b"")
        self._link.advance()
        delivery.update(Delivery.ACCEPTED)
        delivery.settle()
        self._link.flow(1)
        response = self._token(request) if self._entity == CBS else self._operation(request)
        response.correlation_id = request.id  # of the same type: the SDK compares uuids
        link = self._connection.replies.get(request.reply_to) or self._connection.replies.get(self._link.remote_target.address)
        if link is not None:
            back = link.delivery(os.urandom(8).hex())
            link.stream(response.encode())
            link.advance()
            back.settle()

    def _token(self, request: Any) -> Any:
        asked = request.properties or {}
        ordered = self._connection.server.faults.refusal_of(What.TOKENS)
        refusal = ordered or self._connection.claims.put(str(asked.get("name")), str(request.body), time.time())
        code, description = (202, "Accepted") if refusal is None else (401, refusal)
        return Message(properties={"status-code": int32(code), "status-description": description})

    def _operation(self, request: Any) -> Any:
        result = answer(self._connection.server, self._entity, str((request.properties or {}).get("operation")), request.body)
        properties = {"statusCode": int32(result.code), "statusDescription": result.description}
        if result.condition is not None:
            properties["errorCondition"] = symbol(result.condition)
        return Message(properties=properties, body=result.body)
