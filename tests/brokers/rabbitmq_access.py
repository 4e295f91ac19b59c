"""How a RabbitMQ node is reached, wherever it runs; and the one that runs in a container."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.brokers.container import Container
from tests.brokers.process import LOOPBACK, free_port
from tests.brokers.rabbitmq_settings import PASSWORD, USER, Options, erlang_flags

IMAGE = "rabbitmq:4.1"


@dataclass(frozen=True)
class Tls:
    """The same node over TLS, with what a client needs for it."""

    url: str
    ca: Path
    client_cert: Path
    client_key: Path


@dataclass(frozen=True)
class Access:
    """A node of ours in a process has it all; what else one has not is None."""

    url: str
    ctl: Callable[..., str] | None = None  # runs rabbitmqctl with these words, and returns what it prints
    tls: Tls | None = None
    management_url: str | None = None


def in_container() -> tuple[Container, Access]:
    env = {
        "RABBITMQ_DEFAULT_USER": USER,
        "RABBITMQ_DEFAULT_PASS": PASSWORD,
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": erlang_flags(Options()),
    }
    port = free_port()
    container = Container("RabbitMQ", IMAGE, {5672: port}, env, instead="rabbitmq-server")

    def ctl(*words: str) -> str:
        return container.run("rabbitmqctl", "--quiet", *words)

    return container, Access(f"amqp://{USER}:{PASSWORD}@{LOOPBACK}:{port}/", ctl)
