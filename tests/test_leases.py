"""What becomes of events when their lease ends: given back, finished first where a log needs it, acks discarded."""

import asyncio
from typing import Any

from investbus.context import Context
from investbus.errors import Retry
from investbus.event import Event
from investbus.transport import Lease
from tests.lanes import Lanes, virtually


def test_a_lost_lease_gives_back_what_is_queued_and_discards_late_acks() -> None:
    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            await asyncio.sleep(3.0)

        lanes = Lanes(handler, slots=1)
        lanes.submit(("a", "1"), ("a", "2"), ("b", "3"))
        await asyncio.sleep(1.0)
        lanes.lease.lose()
        assert sorted(lanes.endings) == [("2", "Released"), ("3", "Released")]
        await lanes.idle()
        assert lanes.acked == []
        assert lanes.settles.lost == 1
        assert lanes.counts.outcomes["released"] == 3, "done on a lost lease comes again"

    virtually(main)


def test_what_stands_before_a_running_event_in_a_log_is_finished_when_its_lease_closes() -> None:
    """Else everything that has run behind it would come again: a log commits only a prefix."""

    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            await asyncio.sleep(5.0 if event.id == "1" else 1.0)

        lanes = Lanes(handler, slots=2)
        lanes.lease = Lease(lanes.acked.append, lanes.settles, is_log=True)
        lanes.lease.on_closing(lanes.dispatcher.drop)
        lanes.submit(("a", "1"), ("a", "2"), ("b", "3"), ("c", "4"), ("d", "5"), ("e", "6"), ("f", "7"), ("a", "8"))
        await asyncio.sleep(3.5)
        assert lanes.acked == [3, 4, 5]
        lanes.lease.close()
        assert [name for name, what in lanes.endings if what == "Released"] == ["8", "7"]
        assert await lanes.lease.drained(10.0)
        assert sorted(lanes.acked) == [1, 2, 3, 4, 5, 6]
        lanes.lease.lose()
        assert lanes.settles.lost == 0

    virtually(main)


def test_behind_an_event_that_waits_nothing_is_finished_for_its_sake() -> None:
    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            if event.id == "1":
                raise Retry(after=3600.0)
            await asyncio.sleep(1.0)

        lanes = Lanes(handler, slots=2)
        lanes.lease = Lease(lanes.acked.append, lanes.settles, is_log=True)
        lanes.lease.on_closing(lanes.dispatcher.drop)
        lanes.submit(("a", "1"), ("b", "2"), ("b", "3"), ("c", "4"))
        await asyncio.sleep(0.5)
        lanes.lease.close()
        assert sorted(name for name, what in lanes.endings if what == "Released") == ["1", "3"]
        assert await lanes.lease.drained(10.0)
        assert lanes.clock() < 2.0

    virtually(main)


def test_what_is_still_queued_when_a_closing_lease_is_lost_is_given_back() -> None:
    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            await asyncio.sleep(5.0)

        lanes = Lanes(handler, slots=2)
        lanes.lease = Lease(lanes.acked.append, lanes.settles, is_log=True)
        lanes.lease.on_closing(lanes.dispatcher.drop)
        lanes.submit(("a", "1"), ("a", "2"), ("a", "3"), ("b", "4"))
        await asyncio.sleep(1.0)
        lanes.lease.close()
        assert lanes.endings == []
        lanes.lease.lose()
        assert sorted(lanes.endings) == [("2", "Released"), ("3", "Released")]
        await lanes.idle()
        assert (lanes.acked, lanes.settles.lost) == ([], 2)

    virtually(main)
