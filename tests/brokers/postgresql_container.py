"""PostgreSQL in a container, for machines with an engine but without the Debian package."""

from tests.brokers.container import Container
from tests.brokers.process import LOOPBACK, free_port

IMAGE = "postgres:17"
USER, PASSWORD = "app", "app-secret"


def in_container() -> tuple[Container, str]:
    """And its URL."""
    port = free_port()
    env = {"POSTGRES_USER": USER, "POSTGRES_PASSWORD": PASSWORD}
    container = Container("PostgreSQL", IMAGE, {5432: port}, env, instead="postgresql")
    return container, f"postgresql://{USER}:{PASSWORD}@{LOOPBACK}:{port}/postgres"
