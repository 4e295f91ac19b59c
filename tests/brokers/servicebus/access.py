"""How a namespace is reached and filled: one of ours (`emulator`), or one whose connection string was given (`elsewhere`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.brokers.servicebus.orders import Put
from tests.brokers.servicebus.settings import Entities


class Access(Protocol):
    @property
    def endpoint(self) -> str: ...
    @property
    def ca(self) -> Path | None: ...
    def connection_string(self, key: str) -> str: ...
    def answers(self) -> bool: ...
    def create(self, entities: Entities) -> None: ...
    def send(self, entity: str, messages: Sequence[Put]) -> None: ...
    def order(self, method: str, path: str, body: object = None) -> bytes:
        """One request to the control port."""

    def close(self) -> None:
        """Take away what was made in a namespace that goes on."""
