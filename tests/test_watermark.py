"""The watermark beside a list and a loop, over whole lives of a log: leases come and go, and acks arrive late.

`INVESTBUS_HISTORIES` says how many lives are tried, `INVESTBUS_SEED` repeats a run.
"""

import os
import random
from itertools import accumulate

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from investbus.transport import Delivery, Lease, SettleCounts
from investbus.watermark import Watermark

HISTORIES = int(os.environ.get("INVESTBUS_HISTORIES", "3000"))
SEED = int(os.environ.get("INVESTBUS_SEED") or random.randrange(2**32))

holes = st.lists(st.integers(1, 1000), min_size=1, max_size=40)
kinds = ["deliver"] * 3 + ["finish"] * 4 + ["finish late", "close", "lose"]
steps = st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 39)), max_size=80)


class Life:
    """A log with holes, read under one lease after another. What it expects is worked out anew from lists each time."""

    def __init__(self, log: list[int]) -> None:
        self.log = log
        self.counts = SettleCounts()
        self.committed = -1
        self.late: list[Delivery] = []  # undecided when their lease was lost
        self.late_acks = 0
        self.begin()

    def begin(self) -> None:
        self.watermark = Watermark()
        self.lease = Lease(self.watermark.finished, self.counts)
        self.ahead = [position for position in self.log if position > self.committed]
        self.delivered: list[int] = []
        self.finished: list[int] = []
        self.undecided: list[Delivery] = []

    def deliver(self) -> None:
        if self.ahead and not self.lease.closing:
            position = self.ahead.pop(0)
            self.watermark.delivered(position)
            self.lease.unsettled += 1
            self.delivered.append(position)
            self.undecided.append(Delivery(b"", {}, "log", position, self.lease))

    def finish(self, which: int) -> None:
        if self.undecided:
            delivery = self.undecided.pop(which % len(self.undecided))
            delivery.ack()
            delivery.ack()
            self.finished.append(delivery.position)

    def lose(self) -> None:
        self.lease.lose()
        self.late += self.undecided
        self.begin()

    def finish_late(self, which: int) -> None:
        if self.late:
            self.late.pop(which % len(self.late)).ack()
            self.late_acks += 1

    def step(self, what: str, which: int) -> None:
        match what:
            case "deliver":
                self.deliver()
            case "finish":
                self.finish(which)
            case "finish late":
                self.finish_late(which)
            case "close":
                self.lease.close()
            case _:
                self.lose()

    def check(self) -> None:
        prefix: list[int] = []
        for position in self.delivered:
            if position not in self.finished:
                break
            prefix.append(position)
        assert self.watermark.safe == (prefix[-1] if prefix else None)
        assert self.watermark.gap == len(self.delivered) - len(prefix)
        assert self.watermark.highest == (self.delivered[-1] if self.delivered else None)
        assert self.counts.lost == self.late_acks
        if self.watermark.safe is not None:
            assert self.watermark.safe >= self.committed, "a commit went back"
            self.committed = self.watermark.safe
        assert all(position > self.committed for position in self.delivered if position not in self.finished)


@pytest.fixture(scope="module", autouse=True)
def _told() -> None:
    print(f"INVESTBUS_SEED={SEED} INVESTBUS_HISTORIES={HISTORIES}")


@seed(SEED)
@settings(max_examples=HISTORIES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(holes, steps)
def test_safe_is_the_end_of_the_finished_prefix_and_never_goes_back(gaps: list[int], history: list[tuple[str, int]]) -> None:
    life = Life(list(accumulate(gaps)))
    for what, which in history:
        life.step(what, which)
        life.check()


def test_nothing_is_kept_of_what_is_finished() -> None:
    watermark = Watermark()
    positions = range(0, 30_000, 3)
    for position in positions:
        watermark.delivered(position)
    for position in random.Random(SEED).sample(positions, len(positions)):
        watermark.finished(position)
    assert (watermark.safe, watermark.gap, watermark._ahead) == (29_997, 0, set())


def test_a_front_that_does_not_finish_holds_everything_behind_it() -> None:
    watermark = Watermark()
    for position in (5, 7, 100):
        watermark.delivered(position)
    watermark.finished(7)
    watermark.finished(100)
    assert (watermark.safe, watermark.gap, watermark.highest) == (None, 3, 100)
    watermark.finished(5)
    assert (watermark.safe, watermark.gap, watermark.highest) == (100, 0, 100)
