"""A connection to RabbitMQ, and in words why there is none.

It is one of aiormq, without aio-pika above it, which takes twice the processor time for an event (measured). aiormq tells of a
lost connection by a CancelledError that nobody asked for, and when it closes it waits for a broker that may be frozen. So its
calls run in tasks of their own, and the socket is opened here, to be cut when the time is over.
"""

import asyncio
import ipaddress
import os
import ssl
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import aiormq
import msgspec
from yarl import URL

from investbus import config_bus
from investbus.errors import TransportDown, TransportRefused
from investbus.transports.rabbitmq_frames import LenientReader

LET_IN_WITHIN = 10.0
ANSWER_WITHIN = 5.0  # a quorum queue that had no leader yet never answers, but whoever asks again
UNREADABLE = (aiormq.ProtocolSyntaxError, ArithmeticError, RecursionError, ValueError)  # what bytes can make of a decoder
PORTS = {"amqp": 5672, "amqps": 5671}

T = TypeVar("T")


class Address(msgspec.Struct, frozen=True):
    """What `rabbitmq.url` says."""

    url: URL

    @property
    def where(self) -> str:
        return f"RabbitMQ {self.url.host}:{self.url.port}"

    @property
    def user(self) -> str:
        return self.url.user or "guest"

    @property
    def vhost(self) -> str:
        return self.url.path[1:].replace("%2F", "/") or "/"

    @property
    def in_the_clear(self) -> list[str]:
        """A finding if credentials leave this machine without TLS."""
        if self.url.scheme == "amqps" or _loopback(str(self.url.host)):
            return []
        return [f"rabbitmq.url: amqp:// sends credentials in plain text to {self.url.host}; use amqps://"]


def address(settings: config_bus.RabbitMq) -> Address:
    """Read anew each time, since something outside may have replaced the file. Raises TransportRefused."""
    try:
        given = settings.secret("url") or ""
    except (OSError, UnicodeDecodeError) as error:
        raise TransportRefused(f"rabbitmq.url_file cannot be read: {error}") from error
    try:
        url = URL(given)
        url = url if url.port else url.with_port(PORTS[url.scheme])
        understood = url.scheme in PORTS and bool(url.host) and not url.fragment and set(url.query) <= {"auth"}
    except (ValueError, KeyError):
        understood = False
    if not understood:  # and `from None`: the error would show what was given, password and all
        form = "amqps://USER:PASSWORD@HOST:PORT/VHOST, with what is special in a part as %XX, and at most ?auth=external behind it"
        raise TransportRefused(f"rabbitmq.url: must be {form}") from None
    return Address(url)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls(settings: config_bus.RabbitMq) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise TransportRefused(f"rabbitmq.ca_file {settings.ca_file}: no CA certificates in it: {error}") from error
    if settings.cert_file is not None:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        except (OSError, ssl.SSLError) as error:
            files = f"{settings.cert_file}, {settings.key_file}"
            raise TransportRefused(f"rabbitmq.cert_file and key_file ({files}) do not load: {error}") from error
    return context


class _Socket(aiormq.TransportFactory):
    """Opens the socket for aiormq, and can cut it."""

    def __init__(self, context: ssl.SSLContext | None, lenient: bool) -> None:
        self._context = context
        self._lenient = lenient
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **_: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, self._writer = await asyncio.open_connection(url.host, url.port, ssl=self._context)
        return cast(asyncio.StreamReader, LenientReader(reader)) if self._lenient else reader, self._writer

    def cut(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


class Link:
    """One connection, from `connected` until `close`."""

    def __init__(self, address: Address, connection: aiormq.Connection, socket: _Socket) -> None:
        self.address = address
        self._connection = connection
        self._socket = socket

    @property
    def version(self) -> str:
        """Of the broker."""
        return str(self._connection.server_properties.get("version", ""))

    async def channel(self, *, confirms: bool = False, frames: int = 10) -> aiormq.Channel:
        """`frames`: how many that have arrived may wait for the channel."""
        opening = self._connection.channel(publisher_confirms=confirms, frame_buffer_size=frames)
        channel = await answered(opening)
        assert isinstance(channel, aiormq.Channel)
        return channel

    async def close(self, within: float) -> None:
        """Politely, and after `within` seconds by force."""
        closing = asyncio.create_task(self._connection.close())
        try:
            await asyncio.wait((closing,), timeout=within)
        finally:
            self._socket.cut()
        await asyncio.wait((closing,), timeout=1.0)  # nothing is left to wait for but the event loop


async def connected(settings: config_bus.RabbitMq, *, lenient: bool = False) -> Link:
    """A new connection, with the secrets of this moment. Raises TransportDown."""
    to = address(settings)
    socket = _Socket(tls(settings) if to.url.scheme == "amqps" else None, lenient)
    heartbeat = max(1, round(settings.heartbeat))  # in whole seconds on the wire
    name = f"investbus {settings.queue}"  # what an operator sees in the broker's list of connections
    connection = aiormq.Connection(to.url.update_query(heartbeat=heartbeat, name=name), transport_factory=socket)
    try:
        await answered(connection.connect(), LET_IN_WITHIN)
    except BaseException as error:
        socket.cut()
        if isinstance(error, Exception):
            raise _not_let_in(error, to) from error
        raise
    return Link(to, connection, socket)


async def answered(call: Coroutine[Any, Any, T], within: float = ANSWER_WITHIN) -> T:
    """What `call` returns or raises. A CancelledError out of here is the caller's own, never one of aiormq's."""
    asking = asyncio.create_task(call)
    try:
        await asyncio.wait((asking,), timeout=within)
    finally:
        if not asking.done():
            asking.add_done_callback(_seen)
            asking.cancel()
    if not asking.done():
        raise TimeoutError
    if asking.cancelled():
        raise aiormq.AMQPConnectionError("the connection was lost")
    return asking.result()


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


# ---- words


def said(error: BaseException) -> str:
    """The broker's own words in an exception of aiormq."""
    texts = [argument for argument in error.args if isinstance(argument, str)]
    return " ".join(texts[-1].split()) if texts else type(error).__name__


def _not_let_in(error: Exception, to: Address) -> TransportDown:
    """Why there is no connection."""
    where = to.where
    match error:
        case aiormq.ProbableAuthenticationError():
            return TransportRefused(f'{where} refused user "{to.user}": wrong credentials (rabbitmq.url)')
        case aiormq.AuthenticationError():
            return TransportRefused(f"{where} does not offer this kind of login, only {error.args[0]} (rabbitmq.url, ?auth=)")
        case aiormq.InvalidFrameError() if "OpenOk" in said(error):  # aiormq keeps the broker's words for itself
            reasons = f'does not exist, or user "{to.user}" may not use it, or it has all the connections that it may have'
            return TransportRefused(f'{where}: virtual host "{to.vhost}" {reasons}')
        case ssl.SSLCertVerificationError():
            return TransportRefused(f"{where}: its certificate is not valid: {error.verify_message} (rabbitmq.ca_file)")
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
            return TransportRefused(f"{where}: no TLS there; does that port speak amqp://? (rabbitmq.url)")
        case ssl.SSLError():
            return TransportRefused(f"{where}: TLS failed: {error.reason} (rabbitmq.ca_file, cert_file, key_file)")
        case aiormq.AMQPConnectionError(__cause__=ssl.SSLError() as cause):
            return _not_let_in(cause, to)
        case aiormq.AMQPConnectionError():
            certificate = ", or ask for a client certificate (rabbitmq.cert_file)" if to.url.scheme == "amqps" else ""
            return TransportDown(
                f"{where} hung up during the login; does that port speak {to.url.scheme}:// (rabbitmq.url){certificate}?"
            )
        case OSError(errno=int(number)) if number > 0 and not isinstance(error, TimeoutError):
            return TransportDown(f"{where} cannot be reached: {os.strerror(number)}")
    return explained(error, to)


def explained(error: BaseException | None, to: Address) -> TransportDown:
    """What the end of a connection or of a channel means; None is how aiormq says that the socket was closed."""
    where = to.where
    match error:
        case TransportDown():
            return error
        case TimeoutError():
            return TransportDown(f"{where} does not answer")
        case asyncio.CancelledError():
            return TransportDown(f"{where} has been silent for three heartbeats (rabbitmq.heartbeat)")
        case aiormq.ConnectionClosed():
            return TransportDown(f"{where} closed the connection: {said(error)}")
        case aiormq.AMQPChannelError():
            return TransportDown(f"{where} closed the channel: {said(error)}")
        case _ if isinstance(error, UNREADABLE):
            what = "a message has properties that cannot be read; on the next connection it comes without them"
            return TransportDown(f"{where}: {what}: {said(error)}")
        case None | ConnectionError() | aiormq.exceptions.ChannelInvalidStateError():
            return TransportDown(f"{where}: the connection was lost")
    return TransportDown(f"{where}: {type(error).__name__}: {said(error)}")
