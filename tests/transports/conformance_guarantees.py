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
    "survives": "What was published outlives a kill of whatever keeps it",
    "singly": "An ack holds although an older event is unfinished",
    "in_order": "What comes again comes in order, before anything newer",
    "marked": "An event that comes again says so",
    "counted": "and for the how-manieth time",
    "placed": "and lies at the same place (`origin`) as before",
    "finishes": "What runs while the bus takes its events away may finish and be acked",
    "second": "A second worker on the same partition, queue or log",
}

GUARANTEES: dict[str, Guarantees] = {
    "kafka": Guarantees(
        survives=True, singly=False, in_order=True, marked=False, counted=False, placed=True, finishes=True, second="waits"
    ),
    "rabbitmq": Guarantees(
        survives=True,
        singly=True,
        in_order=True,
        marked=True,
        counted=True,
        placed=False,
        finishes=False,
        second="shares the events",
    ),
    "servicebus": Guarantees(
        survives=True,
        singly=True,
        in_order=True,
        marked=True,
        counted=True,
        placed=True,
        finishes=False,
        second="shares the events",
    ),
    "file": Guarantees(
        survives=True, singly=False, in_order=True, marked=False, counted=False, placed=True, finishes=True, second="is refused"
    ),
    "memory": Guarantees(
        survives=False, singly=True, in_order=True, marked=True, counted=True, placed=True, finishes=True, second=None
    ),
}


# What may be chosen on a bus, and which answers change with it.
GUARANTEES |= {
    "rabbitmq, single active consumer": GUARANTEES["rabbitmq"]._replace(second="waits"),
    "servicebus, sessions": GUARANTEES["servicebus"]._replace(second="waits"),
}


def proves(*questions: str) -> Callable[[Case], Case]:
    """Say of a case that it fails unless the bus answers these questions as it is said above."""

    def mark(case: Case) -> Case:
        case.proves = questions  # type: ignore[attr-defined] # a note for test_conformance.py
        return case

    return mark
