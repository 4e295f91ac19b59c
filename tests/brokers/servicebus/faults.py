"""What a test orders to go wrong. All of it is of this process: a restart is well again."""

import time
from enum import StrEnum

SERVER_BUSY = "com.microsoft:server-busy"
DETACH_FORCED = "amqp:link:detach-forced"


class What(StrEnum):
    """Which requests of clients can be refused."""

    SENDS = "sends"
    SETTLES = "settles"
    TOKENS = "tokens"
    RENEWALS = "renewals"
    ATTACHES = "attaches"


class Faults:
    def __init__(self) -> None:
        self.latency = 0.0  # seconds that every answer comes late
        self.silent = False  # requests are carried out, but nothing is answered, not even a heartbeat
        self.idle_limit = 0.0  # seconds after which a link without traffic is detached; 0: never
        self._refused: dict[What, tuple[str, float]] = {}  # the condition, and until when

    def refuse(self, what: What, condition: str, seconds: float) -> None:
        self._refused[what] = condition, time.monotonic() + seconds

    def refusal_of(self, what: What) -> str | None:
        """The condition to refuse it with; None if it is to be done."""
        if not self._refused or what not in self._refused:
            return None
        condition, until = self._refused[what]
        return condition if time.monotonic() < until else None

    def heal(self) -> None:
        """No fault any more."""
        self.latency, self.silent, self.idle_limit = 0.0, False, 0.0
        self._refused.clear()
