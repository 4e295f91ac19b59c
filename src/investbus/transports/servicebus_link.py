"""What an AMQP link of Service Bus can do and the SDK does not offer; this file and `servicebus_wires` use its private names.

- Credit. The SDK asks for the next messages when all of the last have come, and for a fixed number; ours must not exceed
  the room in a window, and must go back to none when events are given back, or they return to whoever gave them.
- `released`. Abandoning counts as a failed delivery, and after ten of these the service puts an event among its dead
  letters; a rolling restart is no failure of the event.
- Many locks renewed by one request. One by one, a window of some hundred takes longer than its locks last.
- Closing a link that is broken, so that it is opened again.
- Settling many at once. A call for each has each of them wait for the same socket: whoever reads gets the answers of all, and the
  others notice when their time-out is over. Besides `complete_message` turns to the management link when a connection is lost,
  on a receiver that is not safe for two.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus._pyamqp.outcomes import Accepted, Released
from azure.servicebus._pyamqp.receiver import check_disposition_outcome
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import MessageLockLostError, MessageNotFoundError, ServiceBusConnectionError, SessionLockLostError

from investbus.transports.servicebus_silence import ANSWER_WITHIN
from investbus.transports.servicebus_wires import note

SETTLE_WITHIN = 10.0  # seconds for the answer to a settlement; the SDK's own means then ask over the management link

Outcome = Literal["accepted", "released"]
Answer = dict[str, Any]  # as the SDK keeps it: whether it is there ("settled"), and what it is
STATES = {"accepted": Accepted(), "released": Released()}
MANAGED = {"accepted": "completed", "released": "abandoned"}


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

    async def open_again(self) -> None:
        """A question over a connection that is gone fails, and closes it; over one that is closed it opens it."""
        receiver: Any = self._receiver
        try:
            if self.client is not None and self.broken:
                await receiver._close_handler()  # noqa: SLF001
            await self.ask()
        except Exception:
            await self.ask()

    async def ask(self) -> None:
        """Something that costs little, and returns with the answer."""
        await self._receiver.peek_messages(1, timeout=ANSWER_WITHIN)

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

    async def renew(self, messages: Sequence[ServiceBusReceivedMessage]) -> list[datetime | None]:
        """Until when their locks last now. Where one of the locks is lost, the service refuses them all."""
        tokens: list[Any] = [message.lock_token for message in messages]
        answer = await self._receiver._renew_locks(*tokens, timeout=ANSWER_WITHIN)  # noqa: SLF001
        ends: list[datetime | None] = [datetime.fromtimestamp(end / 1000, UTC) for end in answer[b"expirations"]]
        for message, end in zip(messages, ends, strict=True):
            message._expiry = end  # noqa: SLF001 - by which the SDK decides whether to settle at all
        return ends

    def session_ends(self) -> datetime | None:
        """Until when the session is locked. The SDK is to forget it: by the clock of this machine it would give up the session."""
        session: Any = self._receiver.session
        end: datetime | None = session.locked_until_utc
        session._locked_until_utc = None  # noqa: SLF001
        return end

    async def renew_session(self) -> list[datetime | None]:
        """The same for the lock of a session."""
        await self._receiver.session.renew_lock(timeout=ANSWER_WITHIN)
        return [self.session_ends()]

    async def settle(self, given: Sequence[tuple[ServiceBusReceivedMessage, Outcome]]) -> list[Exception | None]:
        """Of each, None where the service has confirmed it, else why not."""
        link = self.client._link  # noqa: SLF001
        asked = [await _ask(link, message, outcome) for message, outcome in given]
        cut = await self._read([answer for answer in asked if not isinstance(answer, Exception)])
        for message, _ in given:
            link._pending_dispositions.pop(message._delivery_id, None)  # noqa: SLF001
        return [_result(answer, outcome, cut) for answer, (_, outcome) in zip(asked, given, strict=True)]

    async def _read(self, asked: Sequence[Answer]) -> Exception | None:
        """Read until all are answered, or whatever ends that."""
        now = asyncio.get_running_loop().time
        until = now() + SETTLE_WITHIN
        try:
            for answer in asked:
                while not answer["settled"]:
                    if now() > until:
                        return TimeoutError("a settlement was not answered")
                    await self.client._connection.listen(wait=False)  # noqa: SLF001
                    if self.broken:
                        return ServiceBusConnectionError(message="the link was closed")
        except Exception as error:
            return error
        return None

    async def settle_slowly(self, messages: Sequence[ServiceBusReceivedMessage], outcome: Outcome) -> list[Exception | None]:
        """The same over the management link, also for messages that came over a link which is gone, or that were refused there.

        By one request, where none of the locks is lost.
        """
        error = await self._manage(messages, outcome)
        if len(messages) < 2 or error is None or not says(error, "lock-lost"):
            return [error] * len(messages)
        return [await self._manage([message], outcome) for message in messages]

    async def _manage(self, messages: Sequence[ServiceBusReceivedMessage], outcome: Outcome) -> Exception | None:
        receiver: Any = self._receiver
        what = {"settlement": MANAGED[outcome], "lock_tokens": [message.lock_token for message in messages]}
        try:
            if messages:
                await receiver._do_retryable_operation(receiver._settle_message_via_mgmt_link, **what)  # noqa: SLF001
        except Exception as error:
            return error
        return None


async def _ask(link: Any, message: ServiceBusReceivedMessage, outcome: Outcome) -> Answer | Exception:
    """Tell the service what to do with a message; where its answer will be."""
    number, tag = message._delivery_id, message._delivery_tag  # noqa: SLF001
    link._pending_dispositions[number] = answer = {"settled": False, "outcome": None}  # noqa: SLF001
    try:
        await link._outgoing_disposition(number, None, tag, False, STATES[outcome], None)  # noqa: SLF001
    except Exception as error:
        return error
    return answer


def _result(answer: Answer | Exception, outcome: Outcome, cut: Exception | None) -> Exception | None:
    if isinstance(answer, Exception):
        return answer
    if not answer["settled"]:
        return cut
    try:
        check_disposition_outcome(0, answer["outcome"], outcome)
    except Exception as error:
        return error
    return None


def says(error: BaseException, condition: Literal["lock-lost", "server-busy"]) -> bool:
    """Whether it is the service's word that a lock is no longer ours, or that it is busy."""
    if isinstance(error, MessageLockLostError | SessionLockLostError | MessageNotFoundError):
        return condition == "lock-lost"
    return condition in str(getattr(error, "condition", "") or error)
