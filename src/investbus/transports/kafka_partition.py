"""One partition during one assignment, and the assignment: what was handed out, what is finished, what is committed.

Nothing here outlives the assignment. A partition that leaves and comes back is a new object with a new lease and a new
watermark, so a late ack of the earlier time has nothing that it could move.
"""

from collections.abc import Callable
from typing import Any

from investbus.transport import Lease, PartitionState, SettleCounts
from investbus.watermark import Watermark


class Partition:
    """Offsets are as Kafka counts them: the committed one is that of the next record to be read."""

    def __init__(self, tp: Any, counts: SettleCounts, acked: Callable[["Partition"], None]) -> None:
        self.tp = tp
        self.source = f"kafka:{tp.topic}/{tp.partition}"
        self.lease = Lease(self._finished, counts, is_log=True)
        self.committed = 0
        self.position = -1  # of the next record that aiokafka would fetch, when it was last looked at
        self.fetched = -1  # the last record that it did fetch
        self.moved_at = 0.0  # when `position` last moved or had no reason to
        self.lag = 0
        self.full = False  # paused: too much of it is unfinished
        self.lost = ""  # paused: why its position is no longer there
        self._watermark = Watermark()
        self._counts = counts
        self._told = acked
        self._handed = 0
        self._acked = 0
        self._confirmed = 0  # acks that a commit has covered

    def renewed(self, offset: int) -> "Partition":
        """The same partition, to be read from `offset` on, with nothing known of what was read of it before."""
        partition = Partition(self.tp, self._counts, self._told)
        partition.begin(offset)
        return partition

    def begin(self, offset: int) -> None:
        self.committed = offset
        self.fetched = offset - 1

    def hand_out(self, offset: int) -> None:
        self.lease.unsettled += 1
        self._handed += 1
        self._watermark.delivered(offset)

    def _finished(self, offset: int) -> None:
        self._acked += 1
        self._watermark.finished(offset)
        self._told(self)

    @property
    def width(self) -> int:
        """Positions from the first unfinished record to the last one fetched."""
        safe = self._watermark.safe
        return self.fetched - (self.committed - 1 if safe is None else safe)

    def due(self) -> tuple[int, int] | None:
        """The offset to commit and how many acks it covers; None while the finished prefix stands still."""
        safe = self._watermark.safe
        if safe is None or safe < self.committed:
            return None
        return safe + 1, self._handed - self._watermark.gap

    def confirm(self, offset: int, covered: int) -> None:
        """The broker has `offset`."""
        self.committed = offset
        self._counts.ok += covered - self._confirmed
        self._confirmed = covered

    def refuse(self, covered: int) -> None:
        """The broker would not take the commit that covered so many acks, and never will."""
        self._counts.error += covered - self._confirmed
        self._confirmed = covered

    def lose(self) -> None:
        """What was acked and not committed comes again, elsewhere or here."""
        if not self.lease.lost:
            self._counts.lost += self._acked - self._confirmed
            self.lease.lose()

    def state(self) -> PartitionState:
        highest = self._watermark.highest
        return PartitionState(self.lag, 0 if highest is None else max(0, highest + 1 - self.committed))


class Epoch:
    """One assignment. `generation` is the group's at that time; in a later one nothing of this epoch is ours to commit."""

    def __init__(self, generation: int, partitions: dict[int, Partition]) -> None:
        self.generation = generation
        self.partitions = partitions
        self.placed = False  # every partition knows where to begin

    @property
    def unsettled(self) -> bool:
        return any(partition.lease.unsettled for partition in self.partitions.values())

    def restart(self, partition: Partition, offset: int) -> None:
        """Go back to `offset`, as in a log that was made anew. Positions then fall, which no watermark takes."""
        partition.lose()
        self.partitions[partition.tp.partition] = partition.renewed(offset)

    def lose(self) -> None:
        for partition in self.partitions.values():
            partition.lose()
