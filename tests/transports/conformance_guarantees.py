"""What each bus answers to the questions that decide whether it fits, as data: so nothing is claimed that was not tried.

The cases of the suite assert these answers on the real bus, and the README prints them (`python -m tests.docs_tables`).
`test_conformance.py` is red where no case proves an answer, and where a case would be content with another one.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

Case = TypeVar("Case", bound=Callable[..., Any])


class Guarantees(NamedTuple):
    """None: nobody could ask that of this bus."""

    survives: bool
    singly: bool
    in_order: bool
    marked: bool
    counted: bool
    placed: bool
    finishes: bool
    second: Literal["shares the events", "waits", "is refused"] | None


QUESTIONS: Mapping[str, str] = {
    "survives": "What was published outlives a kill of the broker, or of the process",
    "singly": "An ack holds although an older event is unfinished",
    "in_order": "What comes again comes in order, before anything newer",
    "marked": "What comes again says so",
    "counted": "What comes again says how often it came",
    "placed": "What comes again has the origin that it had",
    "finishes": "What runs while the bus takes its event away may finish and be acked",
    "second": "A second worker on the same partition, queue or log",
}

_LOG = Guarantees(
    survives=True,
    singly=False,
    in_order=True,
    marked=False,
    counted=False,
    placed=True,
    finishes=True,
    second="waits",
)
_QUEUE = Guarantees(
    survives=True,
    singly=True,
    in_order=True,
    marked=True,
    counted=True,
    placed=True,
    finishes=False,
    second="shares the events",
)
_RABBITMQ = _QUEUE._replace(placed=False)

GUARANTEES: Mapping[str, Guarantees] = {
    "kafka": _LOG,
    "rabbitmq": _RABBITMQ,
    "rabbitmq, single active consumer": _RABBITMQ._replace(second="waits"),
    "servicebus": _QUEUE._replace(in_order=False),
    "servicebus, sessions": _QUEUE._replace(second="waits"),
    "file": _LOG._replace(second="is refused"),
    "memory": _QUEUE._replace(survives=False, finishes=True, second=None),
}


def proves(*questions: str) -> Callable[[Case], Case]:
    """Say of a case that it fails unless the bus answers these questions as it is said above."""

    def mark(case: Case) -> Case:
        case.proves = questions  # type: ignore[attr-defined] # a note for test_conformance.py
        return case

    return mark
