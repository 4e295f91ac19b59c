"""What reached the pretend platform: every call, and every movement of money that was announced to it.

Tests and chaos runs compare these with what the worker says it did. Calls are bounded, effects are not: the proof that
nothing was paid twice needs all of them.
"""

import time
from collections import Counter, deque
from typing import Any

import msgspec


class Call(msgspec.Struct):
    """`started` and `ended` are seconds since the epoch; `status` 0 means that no answer was sent (yet)."""

    method: str
    path: str
    operation: str
    started: float
    idempotency_key: str | None = None
    ended: float | None = None
    status: int = 0


class Calls:
    """The newest calls, and how many there were of each operation (`GET /portfolios/{id}/`)."""

    def __init__(self, kept: int) -> None:
        self.recent: deque[Call] = deque(maxlen=kept)
        self.counts: Counter[str] = Counter()

    def begin(self, call: Call) -> None:
        self.recent.append(call)
        self.counts[call.operation] += 1


class Effect(msgspec.Struct):
    """One deposit or withdrawal. `times` has an entry for each call that asked for it, `repeats` is all but the first.

    `conflicts` counts calls that used its key for something else: those were refused.
    """

    id: str
    kind: str
    key: str | None
    body: dict[str, Any]
    times: list[float] = []
    repeats: int = 0
    conflicts: int = 0


class Effects:
    """Same kind and same key: the same effect, once. A call without a key is an effect of its own each time."""

    def __init__(self) -> None:
        self.all: list[Effect] = []
        self._by_key: dict[tuple[str, str], Effect] = {}

    def record(self, kind: str, key: str | None, body: dict[str, Any]) -> Effect | None:
        """The effect of this call, new or known; None if the key belongs to another one."""
        effect = None if key is None else self._by_key.get((kind, key))
        if effect is None:
            effect = Effect(f"T{len(self.all):026}", kind, key, body, [time.time()])
            self.all.append(effect)
            if key is not None:
                self._by_key[kind, key] = effect
        elif effect.body == body:
            effect.times.append(time.time())
            effect.repeats += 1
        else:
            effect.conflicts += 1
            return None
        return effect
