"""Whether the service still answers.

A server that is gone without a word looks like an empty queue: the SDK just returns no messages. So whoever asks
something that has to be answered says until when, and a silence that goes on is seen from outside, even while the call
that waits for the answer hangs.
"""

import asyncio

ANSWER_WITHIN = 5.0  # seconds
ASK_AFTER = 5.0  # without any answer; then something is asked that costs little
GIVE_UP_AFTER = 40.0  # of silence beyond the first that was due


class Silence:
    """Of one connection."""

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        self._heard = self._now()
        self._due: float | None = None  # when the answer to the oldest open question should have been there

    def ask(self, within: float = ANSWER_WITHIN) -> None:
        """Something was asked. A question that was not answered stays open although others are asked."""
        if self._due is None:
            self._due = self._now() + within

    def heard(self) -> None:
        """An answer, whatever it says."""
        self._heard, self._due = self._now(), None

    @property
    def to_be_broken(self) -> bool:
        """Whether it is time to ask something."""
        return self._now() - self._heard > ASK_AFTER

    @property
    def seconds(self) -> float:
        """How long there was no answer, if one is overdue, else 0."""
        return self._now() - self._heard if self._due is not None and self._now() > self._due else 0.0

    @property
    def final(self) -> bool:
        """Whether nobody should wait any longer."""
        return self._due is not None and self._now() > self._due + GIVE_UP_AFTER
