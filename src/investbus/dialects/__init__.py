"""A dialect reads the messages of one platform: one module each, named in the configuration as `dialect`."""

from collections.abc import Mapping
from typing import Protocol

from investbus.event import Envelope


class Dialect(Protocol):
    """A pure function from one message to what it says. A module with a `decode` is a dialect."""

    def decode(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        """The events of one message, in order. Raises DecodeError, and for no bytes whatever anything else."""
        ...
