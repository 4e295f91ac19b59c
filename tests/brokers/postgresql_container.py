"""PostgreSQL in a container, for machines with an engine but without the Debian package."""

from tests.brokers.container import Container
from tests.brokers.process import LOOPBACK

IMAGE = "postgres:17"
USER, PASSWORD = "app", "app-secret"


def in_container() -> tuple[Container, str]:
    """And its URL."""
    container = Container("PostgreSQL", IMAGE, 5432, {"POSTGRES_USER": USER, "POSTGRES_PASSWORD": PASSWORD})
    return container, f"postgresql://{USER}:{PASSWORD}@{LOOPBACK}:{container.port}/postgres"
