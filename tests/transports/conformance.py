"""The suite that every transport passes: the same cases on every bus, and only the set-up of the bus in `test_conformance_NAME.py`.

A transport's class is put together from the groups that apply to it. No case is ever skipped: a group applies whole, or it has no
meaning on that bus, for the reason that stands here. Where buses differ, they differ as `conformance_guarantees.py` says.
"""

from collections.abc import Mapping
from typing import NamedTuple

from tests.transports.conformance_delivery import Delivering
from tests.transports.conformance_elsewhere import Reaching, Sharing
from tests.transports.conformance_endings import Ending
from tests.transports.conformance_leases import Leasing

__all__ = ["NOT_FOR", "VARIANTS", "Delivering", "Ending", "Leasing", "Reaching", "Sharing", "Variant", "groups"]

# Group of cases, and the transports to which it does not apply.
NOT_FOR: Mapping[type, Mapping[str, str]] = {
    Delivering: {},
    Leasing: {},
    Ending: {},
    Sharing: {"memory": "it is an object of its process: there is no other one, and nobody who could look for it"},
    Reaching: {
        "memory": "there is nothing between it and its worker that could stop, expire or ask for a login",
        "file": "the disk does not stop, no lease expires, and who may read is a matter of the file system",
    },
}


class Variant(NamedTuple):
    """A bus set up in another way, and the groups that can tell the difference: those about leases, and about other workers."""

    of: str
    suite: str
    groups: tuple[type, ...] = (Leasing, Sharing)


VARIANTS: Mapping[str, Variant] = {
    "rabbitmq, single active consumer": Variant("rabbitmq", "TestSingleActiveConsumer"),
    "servicebus, sessions": Variant("servicebus", "TestSessions"),
}


def groups(name: str) -> tuple[type, ...]:
    """What the class of a transport is put together from."""
    return tuple(group for group, reasons in NOT_FOR.items() if name not in reasons)
