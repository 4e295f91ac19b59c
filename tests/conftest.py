"""Fixtures that every test may use: the real brokers of the lab. And loggers that forget what an earlier test has configured."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

pytest_plugins = ["tests.brokers.fixtures", "tests.brokers.servicebus.fixtures"]


@pytest.fixture(autouse=True, scope="session")
def _loggers_follow_their_configuration() -> Iterator[None]:
    """A logger that was cached under one test's configuration would say nothing to the next test that listens."""
    with pytest.MonkeyPatch.context() as patch:
        configure = structlog.configure

        def uncached(**chosen: Any) -> None:
            configure(**chosen | {"cache_logger_on_first_use": False})

        patch.setattr(structlog, "configure", uncached)
        yield
