"""A Service Bus namespace as pytest fixtures. None is started before a test asks for it."""

import gc
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers.missing import Missing, refuse
from tests.brokers.servicebus.lab import ServiceBus
from tests.brokers.servicebus.sources import open_servicebus


@pytest.fixture(scope="session")
def servicebus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceBus]:
    """The namespace that all tests share: create entities of your own, and leave it running and well."""
    yield from _opened(tmp_path_factory.mktemp("servicebus"), own=False)


@pytest.fixture(scope="module")
def _servicebus_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceBus]:
    yield from _opened(tmp_path_factory.mktemp("own-servicebus"), own=True)


@pytest.fixture
def own_servicebus(_servicebus_of_module: ServiceBus) -> ServiceBus:
    """A namespace of this module's own, to be killed and disturbed; it runs and is well again when the next test gets it."""
    if not _servicebus_of_module.running:
        _servicebus_of_module.start()
    _servicebus_of_module.resume()
    _servicebus_of_module.heal()
    return _servicebus_of_module


@pytest.fixture(scope="module")
def careless_sdk() -> Iterator[None]:
    """For modules that break connections under the SDK, together with the mark `filterwarnings("ignore::ResourceWarning")`.

    It forgets to close the socket of a connection that the other side has ended, and its log records keep hold of it. So they
    are not written, and what was lost is collected here, when the event loops of the tests are closed.
    """
    logger = logging.getLogger("azure.servicebus")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _opened(folder: Path, *, own: bool) -> Iterator[ServiceBus]:
    try:
        namespace = open_servicebus(folder, own=own)
    except Missing as missing:
        refuse(missing)
    try:
        yield namespace
    finally:
        namespace.close()
