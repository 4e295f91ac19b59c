"""A client of one Service Bus namespace, and what it means when the service does not want it.

It is made anew at each `open`, with the secrets of that moment. The SDK's own retries are off: how often and when a bus
is tried again is the worker's to decide. All is AMQP over TCP; TLS is verified, unless the connection string says that it
leads to a development emulator, which has none.
"""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError
from azure.servicebus import ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender
from azure.servicebus.exceptions import (
    MessageSizeExceededError,
    MessagingEntityDisabledError,
    MessagingEntityNotFoundError,
    OperationTimeoutError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
)

from investbus import config_bus
from investbus.errors import TransportDown, TransportRefused
from investbus.transports.servicebus_link import SETTLE_WITHIN
from investbus.transports.servicebus_wires import Handler, hang_up, note, watch

TRY_WITHIN = 15.0  # seconds for one attempt of anything; without it opening can wait for ever
CLOSE_WITHIN = 2.0  # after an error
SOCKET_TIMEOUT = 0.02  # what each group of settlements pays once; far below, many that wait together never get on
LONGEST_WORDS = 300  # characters of what the service says

_BEHIND: set[asyncio.Task[None]] = set()  # the event loop itself forgets tasks that nobody holds


class Connection:
    """Makes receivers and senders; each opens a TCP connection of its own."""

    def __init__(self, settings: config_bus.ServiceBus) -> None:
        """Raises TransportRefused where the settings cannot lead anywhere."""
        self._settings = settings
        self._credential: Any = None
        options: dict[str, Any] = {"retry_total": 0, "try_timeout": TRY_WITHIN}
        if settings.namespace is not None:
            from azure.identity.aio import DefaultAzureCredential

            self._credential = DefaultAzureCredential()
            self._client = ServiceBusClient(settings.namespace, self._credential, **options)
            return
        try:
            self._client = ServiceBusClient.from_connection_string(connection_string(settings), **options)
        except ValueError as error:
            raise TransportRefused(f"servicebus.connection_string is none: {error}") from None

    def receiver(self, *, session: Any = None, dead: bool = False, patience: float | None = None) -> ServiceBusReceiver:
        """`session`: an id, or NEXT_AVAILABLE_SESSION, which waits for one as long as `patience`; `dead`: of the dead letters."""
        options: dict[str, Any] = {
            "socket_timeout": SOCKET_TIMEOUT,
            "timeout": SETTLE_WITHIN,
            "prefetch_count": 1,  # with 0 the SDK gives back whatever arrives while it settles, and order with it
            "keep_alive": 0,  # a second coroutine on this connection; the owner of a receiver keeps it alive itself
            "max_wait_time": patience,
        }
        options |= {"sub_queue": ServiceBusSubQueue.DEAD_LETTER} if dead else {"session_id": session}
        settings = self._settings
        try:
            if settings.queue is not None:
                receiver = self._client.get_queue_receiver(settings.queue, **options)
            else:
                receiver = self._client.get_subscription_receiver(str(settings.topic), str(settings.subscription), **options)
        except ValueError as error:  # the connection string is for another entity
            raise TransportRefused(f"servicebus.connection_string: {one_line(error)}") from None
        watch(receiver)
        return receiver

    def sender(self) -> ServiceBusSender:
        settings = self._settings
        try:
            if settings.queue is not None:
                sender = self._client.get_queue_sender(settings.queue, keep_alive=0)
            else:
                sender = self._client.get_topic_sender(str(settings.topic), keep_alive=0)
        except ValueError as error:
            raise TransportRefused(f"servicebus.connection_string: {one_line(error)}") from None
        watch(sender)
        return sender

    async def open(self, receiver: ServiceBusReceiver) -> None:
        """Open it, or raise what the SDK raises. Cancelled, it leaves nothing open."""
        opening = asyncio.create_task(receiver.__aenter__())
        try:
            await asyncio.shield(opening)
        except BaseException as error:
            await self.end(receiver, CLOSE_WITHIN if isinstance(error, Exception) else 0.0, opening)
            raise
        note(receiver)

    async def end(self, handler: Handler, within: float, opening: asyncio.Task[Any] | None = None) -> None:
        """Close it. Where nobody answers that can take long: after `within` seconds it goes on behind us."""
        await asyncio.wait((behind(_closed(handler, opening)),), timeout=within)

    async def close(self) -> None:
        if self._credential is not None:
            await self._credential.close()


async def _closed(handler: Handler, opening: asyncio.Task[Any] | None) -> None:
    if opening is not None:
        await stopped(opening)
    with contextlib.suppress(Exception):  # it is gone either way
        await handler.close()
    hang_up(handler)


async def stopped(task: asyncio.Task[Any]) -> None:
    """Cancel a task that is in a call of the SDK, which swallows some cancellations, until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=1.0)  # it may have something to close


def behind(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Have it done whether or not anybody waits for it."""
    task = asyncio.create_task(work)
    _BEHIND.add(task)
    task.add_done_callback(_BEHIND.discard)
    return task


def connection_string(settings: config_bus.ServiceBus) -> str:
    """Its value now: a file that was replaced is taken at the next opening."""
    try:
        value = settings.secret("connection_string")
    except (OSError, UnicodeDecodeError) as error:
        raise TransportRefused(f"servicebus.connection_string_file cannot be read: {error}") from error
    if not value:
        raise TransportRefused("servicebus.connection_string, its _file twin, or servicebus.namespace is needed")
    return value


def in_the_clear(settings: config_bus.ServiceBus) -> list[str]:
    """A finding if messages and tokens leave this machine without TLS."""
    host, plain = _endpoint(settings)
    if not plain or _loopback(host):
        return []
    return [f"servicebus.connection_string: UseDevelopmentEmulator sends tokens and events in plain text to {host}; remove it"]


def _endpoint(settings: config_bus.ServiceBus) -> tuple[str, bool]:
    """The host, and whether it is spoken to without TLS."""
    if settings.namespace is not None:
        return settings.namespace, False
    pairs = (part.partition("=") for part in connection_string(settings).strip().split(";"))
    parts = {name.lower(): value for name, _, value in pairs}
    host = urlsplit(parts.get("endpoint", "")).hostname or ""
    return host, parts.get("usedevelopmentemulator") == "true"


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def entity(settings: config_bus.ServiceBus, *, sending: bool = False) -> str:
    """What is read from, or sent to, for people."""
    if settings.queue is not None:
        return f'queue "{settings.queue}"'
    return f'topic "{settings.topic}"' if sending else f'subscription "{settings.subscription}" of topic "{settings.topic}"'


def one_line(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return said if len(said) <= LONGEST_WORDS else f"{said[:LONGEST_WORDS]}..."


def explained(error: BaseException, settings: config_bus.ServiceBus, *, sending: bool = False) -> TransportDown:
    """What an error of the SDK means."""
    where, said = entity(settings, sending=sending), one_line(error)
    service = f"Service Bus {_host(settings)}".rstrip()
    login = "servicebus.connection_string" if settings.namespace is None else "the identity of this workload"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TransportRefused(f"{service}: its certificate is not valid: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError):
            return TransportRefused(f"{service}: no TLS there: {cause.reason}")
    match error:
        case TransportDown():
            return error
        case MessagingEntityNotFoundError():
            return TransportRefused(f"{service}: {where} does not exist: {said}")
        case ServiceBusAuthenticationError() if "Status code: 404" in said:  # how the service answers a token for nothing
            return TransportRefused(f"{service}: {where} does not exist: {said}")
        case ServiceBusAuthenticationError():
            return TransportRefused(f"{service} refused our credentials ({login}): {said}")
        case ServiceBusAuthorizationError():
            claim = "Send" if sending else "Listen"
            return TransportRefused(f"{service}: {login} lacks the right {claim} on {where}: {said}")
        case MessagingEntityDisabledError():
            return TransportRefused(f"{service}: {where} is disabled: {said}")
        case MessageSizeExceededError():
            return TransportRefused(f"{service}: a message is too large for {where}: {said}")
        case OperationTimeoutError() | TimeoutError():
            return TransportDown(f"{service} does not answer ({where}): {said or 'no answer in time'}")
        case AzureError() if "amqp:not-allowed" in said and not sending:
            return TransportRefused(f"{service}: {_mismatch(settings, where)} ({said})")
        case AzureError() if "DefaultAzureCredential" in said:
            return TransportRefused(f"{service}: this workload has no identity that Entra ID knows: {said}")
    return TransportDown(f"{service}: {where}: {said}")


def _host(settings: config_bus.ServiceBus) -> str:
    try:
        return _endpoint(settings)[0]
    except (TransportRefused, ValueError):  # which is what is being explained
        return ""


def _mismatch(settings: config_bus.ServiceBus, where: str) -> str:
    if settings.sessions:
        return f"session mismatch: {where} has no sessions; set servicebus.sessions: 0"
    return f"session mismatch: {where} requires sessions; set servicebus.sessions to how many at once"


def _causes(error: BaseException) -> list[BaseException]:
    """The error, and all that it was made from."""
    causes: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in causes:
        causes.append(link)
        link = link.__cause__ or link.__context__ or getattr(link, "inner_exception", None)
    return causes
