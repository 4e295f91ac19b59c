"""How a Kafka client logs in, and what it means when it cannot.

aiokafka logs why a broker turned it away, but raises only that it could not connect, or nothing until a limit of ours is
over. So after such a failure every broker is asked once more over a bare connection, whose exception tells, and one line of
it reaches the operator.
"""

import asyncio
import errno
import ipaddress
import ssl
from collections.abc import Sequence
from typing import Any

from aiokafka import errors
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from investbus import config_bus
from investbus.errors import TransportDown, TransportRefused

CLIENT_ID = "investbus"
TOKEN_WITHIN = 5.0  # aiokafka asks for a token while it holds the lock of all new connections, and sets no limit
KNOCK_WITHIN = 4.0  # for all of connecting, TLS and login: a lost broker has to show within 15 s, cause included
NAMED = 3  # brokers of a large cluster that one line has room for
SILENCE = (  # what aiokafka raises when there is no answer
    TimeoutError,
    errors.KafkaTimeoutError,
    errors.KafkaConnectionError,
    errors.RequestTimedOutError,
    errors.NodeNotReadyError,
)


class Token(AbstractTokenProvider):  # type: ignore[misc] # its base is Any, for want of types
    """The bearer token, read anew at every login, since something outside keeps its file fresh."""

    def __init__(self, security: config_bus.KafkaSecurity) -> None:
        self._security = security

    async def token(self) -> str:
        async with asyncio.timeout(TOKEN_WITHIN):
            return await asyncio.to_thread(secret, self._security, "token")


def secret(security: config_bus.KafkaSecurity, name: str) -> str:
    """The secret's value now: a file that was replaced is taken at the next login."""
    try:
        value = security.secret(name)
    except (OSError, UnicodeDecodeError) as error:
        raise TransportRefused(f"kafka.security.{name}_file cannot be read: {error}") from error
    if value is None:
        raise TransportRefused(f"kafka.security.{name} or {name}_file is needed with {security.mechanism}")
    return value


def connection(settings: config_bus.Kafka, request_timeout: float) -> dict[str, Any]:
    """Keyword arguments of a connection, which consumers and producers take as well."""
    security = settings.security
    arguments: dict[str, Any] = {
        "client_id": CLIENT_ID,
        "request_timeout_ms": round(request_timeout * 1000),
        "security_protocol": security.protocol,
    }
    if security.protocol.endswith("SSL"):
        arguments["ssl_context"] = _tls(security)
    if security.protocol.startswith("SASL"):
        arguments |= _login(security)
    return arguments


def _login(security: config_bus.KafkaSecurity) -> dict[str, Any]:
    if security.mechanism is None:
        raise TransportRefused(f"kafka.security.mechanism is needed with {security.protocol}")
    if security.mechanism == "OAUTHBEARER":
        return {"sasl_mechanism": security.mechanism, "sasl_oauth_token_provider": Token(security)}
    if not security.username:
        raise TransportRefused(f"kafka.security.username is needed with {security.mechanism}")
    return {
        "sasl_mechanism": security.mechanism,
        "sasl_plain_username": security.username,
        "sasl_plain_password": secret(security, "password"),
    }


def _tls(security: config_bus.KafkaSecurity) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise TransportRefused(f"kafka.security.ca_file {security.ca_file}: no CA certificates in it: {error}") from error
    if security.cert_file is not None:
        try:
            context.load_cert_chain(security.cert_file, security.key_file)
        except (OSError, ssl.SSLError) as error:
            files = f"{security.cert_file}, {security.key_file}"
            raise TransportRefused(f"kafka.security.cert_file and key_file ({files}) do not load: {error}") from error
    return context


def in_the_clear(settings: config_bus.Kafka) -> list[str]:
    """A finding if credentials leave this machine without TLS."""
    away = [host for host, _, _ in collect_hosts(settings.bootstrap_servers, randomize=False) if not _loopback(host)]
    if settings.security.protocol != "SASL_PLAINTEXT" or not away:
        return []
    return [f"kafka.security.protocol SASL_PLAINTEXT sends credentials in plain text to {', '.join(away)}; use SASL_SSL"]


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def why(error: BaseException, settings: config_bus.Kafka, known: Sequence[tuple[str, int]] = ()) -> TransportDown:
    """What an error means. If it says only that nobody answered, every broker is asked: those of the settings and those `known`.

    A broker that answers and says no weighs more than one that does not answer.
    """
    if type(error) is not errors.KafkaError and not isinstance(error, SILENCE):
        return explained(error, settings)
    try:
        arguments = connection(settings, KNOCK_WITHIN)
    except TransportRefused as refusal:
        return refusal
    bootstrap = ((host, port) for host, port, _ in collect_hosts(settings.bootstrap_servers, randomize=False))
    every = list(dict.fromkeys((*bootstrap, *known)))
    answers = await asyncio.gather(*(_trouble(host, port, arguments, settings.security) for host, port in every))
    reasons = [reason for reason in answers if reason is not None]
    refused = [reason for reason in reasons if isinstance(reason, TransportRefused)]
    if refused:
        return refused[0]
    if not reasons:
        brokers = ", ".join(f"{host}:{port}" for host, port in every[:NAMED])
        return TransportDown(f"Kafka: no answer in time, although {brokers} can be reached now")
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return TransportDown("; ".join(map(str, reasons[:NAMED])) + more)


async def _trouble(host: str, port: int, arguments: dict[str, Any], security: config_bus.KafkaSecurity) -> TransportDown | None:
    try:
        async with asyncio.timeout(KNOCK_WITHIN):
            await _knock(host, port, arguments)
    except Exception as error:  # whatever a handshake can raise: the operator gets it as one line
        return _unreachable(error, f"Kafka broker {host}:{port}", security)
    return None


async def _knock(host: str, port: int, arguments: dict[str, Any]) -> None:
    door = await create_conn(host, port, **arguments)
    try:
        metadata = await door.send(MetadataRequest([]))
    finally:
        door.close()
    if not metadata.brokers:  # aiokafka takes the refusal of a token for a success, and every answer after it for empty
        raise errors.SaslAuthenticationFailed


def _unreachable(error: Exception, where: str, security: config_bus.KafkaSecurity) -> TransportDown:
    match error:
        case TransportDown():
            return error
        case ssl.SSLCertVerificationError():
            return TransportRefused(f"{where}: its certificate is not valid: {error.verify_message} (kafka.security.ca_file)")
        case ssl.SSLError():
            return TransportRefused(f"{where}: no TLS there: {error.reason} (kafka.security.protocol {security.protocol})")
        case errors.SaslAuthenticationFailed():
            who = f'user "{security.username}"' if security.username else "the token"
            return TransportRefused(f"{where} refused {who} with {security.mechanism}: wrong credentials (kafka.security)")
        case errors.UnsupportedSaslMechanismError():
            return TransportRefused(f"{where} does not offer {security.mechanism} (kafka.security.mechanism)")
        case errors.IllegalSaslStateError():
            bare = security.protocol.removeprefix("SASL_")
            instead = f"name a {security.protocol} listener, or set kafka.security.protocol to {bare} and leave out the login"
            return TransportRefused(f"{where}: that listener speaks {bare} and takes no login; {instead}")
        case TimeoutError() | errors.RequestTimedOutError():
            return TransportDown(f"{where} does not answer")
        case errors.KafkaConnectionError() | ConnectionResetError() | ConnectionAbortedError():
            return TransportDown(f"{where} hung up; does that listener speak {security.protocol}? (kafka.security.protocol)")
        case OSError() if f"[Errno {errno.ECONNREFUSED}]" in str(error):  # of a name with several addresses only the text has it
            return TransportDown(f"{where} refuses connections")
        case OSError():
            return TransportDown(f"{where} cannot be reached: {error.strerror or error}")
    return TransportDown(f"{where}: {type(error).__name__}: {error}")


def explained(error: BaseException, settings: config_bus.Kafka) -> TransportDown:
    """What an error of a running client means."""
    user = f'user "{settings.security.username}"' if settings.security.username else "this client"
    match error:
        case TransportDown():
            return error
        case errors.TopicAuthorizationFailedError() | errors.ClusterAuthorizationFailedError():
            return TransportRefused(f'Kafka: {user} is not authorized for topic "{settings.topic}"')
        case errors.GroupAuthorizationFailedError():
            return TransportRefused(f'Kafka: {user} is not authorized for group "{settings.group}"')
        case errors.UnknownTopicOrPartitionError():
            return TransportRefused(f'Kafka: topic "{settings.topic}" does not exist')
        case UnicodeDecodeError():
            return TransportDown(
                f'Kafka: topic "{settings.topic}" has a record with a header name that is not UTF-8, which aiokafka cannot read. '
                "It stands where a partition no longer moves (lag in /status); while no worker runs, move the group past it, "
                "for example with kafka-consumer-groups --reset-offsets"
            )
        case errors.InvalidSessionTimeoutError():
            limits = "group.min.session.timeout.ms or group.max.session.timeout.ms (6 and 1800 s unless set there)"
            return TransportRefused(f"kafka.session_timeout {settings.session_timeout:g} s is beyond the broker's {limits}")
        case errors.InconsistentGroupProtocolError():
            others = "has members that do not divide partitions by roundrobin, so they are of another application"
            return TransportRefused(f'Kafka: group "{settings.group}" {others} (kafka.group)')
    return TransportDown(f"Kafka: {type(error).__name__}: {error}")
