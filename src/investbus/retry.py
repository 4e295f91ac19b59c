"""Again after how long, or not again. Pure: randomness is passed in.

A wait is never shorter than documented (jitter is only added), so "5 attempts, about 40 s" can be promised to the people who set
time-outs elsewhere by it.
"""

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True):
    """`attempts` tries in all; the wait after failure n is min(first * factor^(n-1), max) seconds, plus up to `jitter` of it."""

    attempts: int = 5
    first: float = 1.0
    factor: float = 3.0
    max: float = 60.0
    jitter: float = 0.2

    def wait(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many failures in a row; `chance` is a random number in [0, 1)."""
        try:
            wait = min(self.first * self.factor ** (failures - 1), self.max)
        except OverflowError:
            wait = self.max
        return wait * (1 + self.jitter * chance)

    def exhausted(self, attempt: int) -> bool:
        """Whether attempt number `attempt` was the last one."""
        return attempt >= self.attempts
