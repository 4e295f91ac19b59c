"""How far a log may be committed.

Events of a log are handed out in its order and finish in any other. What may be committed is the end of the unbroken
run of finished ones: after a restart everything behind it comes again, and nothing in front of it is missing.
Positions are sparse (a log has holes, or counts bytes), so only those that were delivered are reasoned about and none
is ever computed.
"""

from collections import deque


class Watermark:
    """The finished prefix of one lease. A new lease gets a new one: what the old one finishes late moves nothing."""

    __slots__ = ("_ahead", "_pending", "_safe")

    def __init__(self) -> None:
        self._pending: deque[int] = deque()  # from the first unfinished position on, in the order of delivery
        self._ahead: set[int] = set()  # those of them that are finished already
        self._safe: int | None = None

    def delivered(self, position: int) -> None:
        """`position` was handed out. Positions rise."""
        self._pending.append(position)

    def finished(self, position: int) -> None:
        """`position`, which was delivered and not finished before, needs no further delivery."""
        pending, ahead = self._pending, self._ahead
        if position != pending[0]:
            ahead.add(position)
            return
        self._safe = pending.popleft()
        while pending and pending[0] in ahead:
            self._safe = pending.popleft()
            ahead.remove(self._safe)

    @property
    def safe(self) -> int | None:
        """The last position that may be committed; None before there is one. Never goes back."""
        return self._safe

    @property
    def gap(self) -> int:
        """How many delivered positions lie behind `safe`. Only the caller can bound it, by delivering no more."""
        return len(self._pending)

    @property
    def highest(self) -> int | None:
        """The last position that was delivered."""
        return self._pending[-1] if self._pending else self._safe
