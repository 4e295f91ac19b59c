"""What an AMQP link of Service Bus can do and the SDK does not offer; this file and `servicebus_wires` use its private names.

- Credit. The SDK asks for the next messages when all of the last have come, and for a fixed number; ours must not exceed
  the room in a window, and must go back to none when events are given back, or they return to whoever gave them.
- `released`. Abandoning counts as a failed delivery, and after ten of these the service puts an event among its dead
  letters; a rolling restart is no failure of the event.
- Many locks renewed by one request. One by one, a window of some hundred takes longer than its locks last.
- Closing a link that is broken, so that it is opened again.
- Settling over the link and nowhere else. `complete_message` turns to the management link when a connection is lost, and
  a hundred of them do so at once, on a receiver that is not safe for two.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import MessageLockLostError, MessageNotFoundError, SessionLockLostError

from investbus.transports.servicebus_silence import ANSWER_WITHIN
from investbus.transports.servicebus_wires import note

SETTLE_WITHIN = 10.0  # seconds for the answer to a settlement; the SDK's own means then ask over the management link

Outcome = Literal["accepted", "released"]
Settle = Callable[[ServiceBusReceivedMessage, Outcome], Awaitable[None]]


class Link:
    """The link of one receiver. Any call can raise anything while the connection is gone."""

    def __init__(self, receiver: ServiceBusReceiver) -> None:
        self._receiver = receiver
        self._client = self.client

    @property
    def client(self) -> Any:
        """The AMQP client: another one after each opening, None while it is closed."""
        return self._receiver._handler  # noqa: SLF001

    def opened_again(self) -> bool:
        """Whether it was, since this was asked last."""
        before, self._client = self._client, self.client
        note(self._receiver)
        return self._client is not before

    @property
    def broken(self) -> bool:
        """Whether nothing can come over it any more. The SDK leaves some such links as they are."""
        client = self.client
        link = None if client is None else client._link  # noqa: SLF001
        return link is None or client._shutdown or link.state.name != "ATTACHED"  # noqa: SLF001

    async def shut(self) -> None:
        """Close it so that the next call opens it anew."""
        receiver: Any = self._receiver
        await receiver._close_handler()  # noqa: SLF001

    @property
    def ready(self) -> int:
        """Messages that have arrived and were not asked for yet; a call for so many does not wait."""
        return 0 if self.client is None else int(self.client._received_messages.qsize())  # noqa: SLF001

    @property
    def credit(self) -> int:
        """Messages that the service may still send."""
        link = None if self.client is None else self.client._link  # noqa: SLF001
        return 0 if link is None else int(link.current_link_credit)

    async def allow(self, credit: int) -> None:
        """From now on the service may send so many; what is on its way is counted."""
        await self.client._link.flow(link_credit=credit)  # noqa: SLF001

    async def renew(self, messages: Sequence[ServiceBusReceivedMessage]) -> list[datetime]:
        """Until when their locks last now. Where one of the locks is lost, the service refuses them all."""
        tokens: list[Any] = [message.lock_token for message in messages]
        answer = await self._receiver._renew_locks(*tokens, timeout=ANSWER_WITHIN)  # noqa: SLF001
        ends = [datetime.fromtimestamp(end / 1000, UTC) for end in answer[b"expirations"]]
        for message, end in zip(messages, ends, strict=True):
            message._expiry = end  # noqa: SLF001 - by which the SDK decides whether to settle at all
        return ends

    async def settle(self, message: ServiceBusReceivedMessage, outcome: Outcome) -> None:
        """Returns when the service has confirmed it. Unlike all else this may run many times at once."""
        await self.client.settle_messages_async(
            message._delivery_id,  # noqa: SLF001
            message._delivery_tag,  # noqa: SLF001
            outcome,
            await_outcome=True,
            outcome_timeout=SETTLE_WITHIN,
        )

    async def settle_slowly(self, message: ServiceBusReceivedMessage, outcome: Outcome) -> None:
        """The same by the SDK's own means, also for a message that came over a link which is gone."""
        await (self._receiver.complete_message if outcome == "accepted" else self._receiver.abandon_message)(message)


def says(error: BaseException, condition: Literal["lock-lost", "server-busy"]) -> bool:
    """Whether it is the service's word that a lock is no longer ours, or that it is busy."""
    if isinstance(error, MessageLockLostError | SessionLockLostError | MessageNotFoundError):
        return condition == "lock-lost"
    return condition in str(getattr(error, "condition", "") or error)
