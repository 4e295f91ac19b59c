"""Whether a dependency is up. Pure: the time is passed in.

While a gate is closed, events that need it wait without spending attempts, and one of them per interval tries: a probe. An
outage of the platform then costs no dead letter, and the platform is not hammered while it gets up. When it answers again, events
come back at a speed that doubles: all that has waited, at once, would be the next outage.
"""

RAMP_STEPS = 8  # in one probe interval; with the last of them the speed is full again


class Gate:
    """One dependency. Closes after `failures` in a row, opens at the first answer, and is wide open some steps after that."""

    __slots__ = (
        "_failures", "_probe_every", "_retry_after_max", "_suspects", "admitted", "closed", "closures", "name", "probe_at", "step",
        "streak",
    )  # fmt: skip

    def __init__(self, name: str, failures: int, probe_every: float, retry_after_max: float) -> None:
        self.name = name
        self._failures = failures
        self._probe_every = probe_every
        self._retry_after_max = retry_after_max
        self.streak = 0  # failures since the last answer
        self._suspects: set[str] = set()  # keys refused or failed by an answer that may be about them, or about everybody
        self.closed = False
        self.closures = 0
        self.probe_at = 0.0  # while closed: when the next event may try
        self.step = 0  # of the ramp after it has opened, from 1; 0: closed or wide open
        self.admitted = 0  # events that have passed in this step

    def failed(self, now: float, after: float | None = None, *, at_once: bool = False) -> bool:
        """The dependency did not answer; `after` is its Retry-After in seconds. True if this closed the gate.

        `at_once` closes whatever the count: a login that is refused will be refused for every event.
        """
        self.streak += 1
        return (self.closed or at_once or self.streak >= self._failures) and self._close(now, after)

    def suspected(self, now: float, key: str) -> bool:
        """An answer to `key` that is either its own fault or everybody's: a refusal, a plain 500. True if this closed the gate.

        One bad entity never closes it; so many different ones in a row do, and while it is closed one more keeps it so.
        """
        if not self.closed:
            self._suspects.add(key)
        return (self.closed or len(self._suspects) >= self._failures) and self._close(now, None)

    def answered(self) -> bool:
        """The dependency answered as it should. True if this opened the gate."""
        opening, self.closed, self.streak = self.closed, False, 0
        if opening:
            self.step, self.admitted = 1, 0
        if self._suspects:
            self._suspects.clear()
        return opening

    def _close(self, now: float, after: float | None) -> bool:
        earliest = self.probe_at if self.closed else now  # a failure that says nothing takes back no Retry-After
        closing, self.closed, self.step = not self.closed, True, 0
        self.closures += closing
        self.probe_at = max(earliest, now + max(self._probe_every, min(after or 0.0, self._retry_after_max)))
        return closing

    @property
    def narrow(self) -> bool:
        """Whether an event has to ask before it passes."""
        return self.closed or self.step > 0

    @property
    def places(self) -> int:
        """While it ramps: how many events may still pass in this step."""
        return (1 << self.step) - self.admitted

    def admit(self, now: float) -> bool:
        """Whether the caller may pass a narrow gate: one per interval while it is closed, more with each step after that."""
        if not self.closed:
            self.admitted += 1
            return self.places >= 0
        if now < self.probe_at:
            return False
        self.probe_at = now + self._probe_every
        return True

    def widen(self) -> None:
        """The next step of the ramp; after the last the gate is wide open."""
        self.step = 0 if self.step >= RAMP_STEPS else self.step + 1
        self.admitted = 0
