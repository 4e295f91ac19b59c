"""What chaos asks of a bus. Everything that is the same on all of them is elsewhere."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from tests.chaos.history import Sent


class Bus(Protocol):
    """A topic or queue that serves one run alone."""

    keyed: bool  # it keeps a key with one consumer at a time: order is promised over all processes

    def watched(self) -> AbstractAsyncContextManager[None]:
        """The witness of what is settled looks on in this block. The workers' whole life lies in it."""

    def settings(self) -> dict[str, Any]:
        """The worker's `transport` and its section."""

    def publish(self, events: Sequence[Sent]) -> None:
        """In this order; returns when the bus has confirmed all."""

    def drained(self) -> bool:
        """Whether everything that was published is settled."""

    def settled(self) -> Mapping[str, float]:
        """When the bus was first seen to need each event no more."""

    def returned(self) -> Mapping[str, int]:
        """How often an event was given back, as far as the bus counts that."""

    def violations(self) -> list[str]:
        """What only this bus can say, after all workers have left."""
