"""The section of each transport: where its bus is, and how its events are taken."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from investbus.config_section import Count, Positive, Section, Text, split

Broker = Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]]+):[0-9]{1,5}$")]
Brokers = Annotated[list[Broker], NoDecode, BeforeValidator(split), Field(min_length=1)]


class KafkaSecurity(Section):
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How the connection is protected. SSL and SASL_SSL encrypt it; the other two do not."""
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    """The SASL mechanism, with a SASL protocol."""
    username: str | None = None
    """SASL user."""
    password: SecretStr | None = None
    """SASL password."""
    password_file: Path | None = None
    """File that holds the password."""
    token: SecretStr | None = None
    """Bearer token, with OAUTHBEARER."""
    token_file: Path | None = None
    """File that holds the token; something outside keeps it fresh."""
    ca_file: Path | None = None
    """CA certificates in PEM; the system's if not set."""
    cert_file: Path | None = None
    """Client certificate in PEM, for mutual TLS."""
    key_file: Path | None = None
    """Key of the client certificate."""


class Kafka(Section):
    bootstrap_servers: Brokers
    """`host:port` of some brokers."""
    topic: Text
    """The topic that carries the platform's events."""
    group: Text
    """Consumer group; replicas of one worker share it."""
    start_from: Literal["earliest", "latest"] = "earliest"
    """Where to begin if the group has never committed."""
    security: KafkaSecurity = KafkaSecurity()
    """TLS and login."""
    session_timeout: Positive = 30.0
    """After so long without a heartbeat the group gives our partitions to others."""
    on_lost_position: Literal["stop", "earliest", "latest"] = "stop"
    """The committed offset is no longer there: stop (not ready, says so), or go on from one end."""


class RabbitMq(Section):
    url: SecretStr | None = None
    """`amqps://user:password@host/vhost`; amqp:// does not encrypt."""
    url_file: Path | None = None
    """File that holds the URL."""
    queue: Text
    """The queue that carries the platform's events."""
    declare: bool = False
    """Create the queue, with a dead-letter exchange and queue of its own, if it is not there."""
    prefetch: Annotated[int, Field(ge=1, le=65535)] = 200
    """Events that the broker hands out before the first is acked."""
    heartbeat: Annotated[float, Field(ge=1)] = 10.0
    """A broker that is silent for about three of these is gone."""
    hold_max: Positive = 900.0
    """Longest time to hold an event unacked; then all go back, in order. At most half of the broker's consumer timeout."""
    ca_file: Path | None = None
    """CA certificates in PEM; the system's if not set."""
    cert_file: Path | None = None
    """Client certificate in PEM, for mutual TLS."""
    key_file: Path | None = None
    """Key of the client certificate."""
    management_url: str | None = Field(None, pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")
    """The broker's management API, only to look at the queue's arguments; the login is that of `url`."""


class ServiceBus(Section):
    connection_string: SecretStr | None = None
    """`Endpoint=sb://...;SharedAccessKeyName=...;SharedAccessKey=...`"""
    connection_string_file: Path | None = None
    """File that holds the connection string."""
    namespace: Text | None = None
    """`NAME.servicebus.windows.net`, with the workload's own identity (Entra ID) instead of a connection string."""
    queue: Text | None = None
    """The queue that carries the platform's events; or a topic and a subscription."""
    topic: Text | None = None
    """The topic that carries them."""
    subscription: Text | None = None
    """Our subscription to the topic."""
    window: Count = 64
    """Events held at once; the lock of each is renewed until it is settled."""
    sessions: Annotated[int, Field(ge=0)] = 0
    """Sessions held at once, where the queue or subscription requires them; 0: it has none."""


class File(Section):
    path: Path
    """An append-only log on this machine; the position is kept beside it."""


class Memory(Section):
    pass
