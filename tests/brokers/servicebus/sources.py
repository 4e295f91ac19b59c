"""Which namespace a test run gets: the one of TEST_SERVICEBUS, else an emulator, else nothing, with the reason why."""

import importlib.util
import os
from pathlib import Path

from tests.brokers.life import Elsewhere
from tests.brokers.missing import Missing
from tests.brokers.servicebus.emulator import EmulatorProcess
from tests.brokers.servicebus.lab import ServiceBus
from tests.brokers.sources import started

NO_ENGINE = (
    "Service Bus: there is no python-qpid-proton for the emulator; "
    "pip install --require-hashes -r requirements/emulator.txt (it needs a C compiler)"
)


def has_engine() -> bool:
    return importlib.util.find_spec("proton") is not None


def open_servicebus(folder: Path, *, own: bool = False, tls: bool = False, strict: bool = False) -> ServiceBus:
    """A started namespace, its files in `folder`; `own`: one that may be killed and disturbed. Raises Missing.

    `strict`: it closes the connection of a client that writes from two coroutines at once.
    """
    return started(_servicebus(folder, own=own, tls=tls, strict=strict))


def _servicebus(folder: Path, *, own: bool, tls: bool, strict: bool) -> ServiceBus:
    given = os.environ.get("TEST_SERVICEBUS")
    if given and not (own or tls or strict):
        from tests.brokers.servicebus.elsewhere import NamespaceAccess

        return ServiceBus(Elsewhere("TEST_SERVICEBUS", "own_servicebus"), NamespaceAccess(given))
    if not has_engine():
        raise Missing(NO_ENGINE if own else f"{NO_ENGINE}, or set TEST_SERVICEBUS to a connection string")
    process = EmulatorProcess(folder, tls=tls, strict=strict)
    return ServiceBus(process, process.access)
