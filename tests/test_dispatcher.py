"""Order, concurrency, waits and cancellation of the dispatcher, on a virtual clock."""

import asyncio
import contextvars
from itertools import pairwise
from typing import Any

import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from investbus.context import Context
from investbus.errors import Reject, Retry, Unavailable
from investbus.event import Event
from investbus.outcome import AttemptTimeout, Dead
from tests.lanes import Lanes, virtually

STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcde"),  # key
        st.lists(st.tuples(st.sampled_from(["ok", "fail", "reject", "retry", "down"]), st.floats(0, 3)), min_size=1, max_size=3),
        st.floats(0, 2),  # seconds until the next is submitted
        st.sampled_from([False, False, False, False, True]),  # the lease is lost before it, and all that was unsettled comes again
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 8))
def test_events_of_one_key_run_one_at_a_time_in_arrival_order(steps: list[Any], slots: int) -> None:
    """Invariant 3, through delays, failures, retries, outages and redeliveries."""
    running: dict[str, str] = {}
    begun: dict[str, list[int]] = {}
    overlaps: list[str] = []  # a failed assertion inside a handler would only be an attempt that failed
    plans = {str(number): list(plan) for number, (_, plan, _, _) in enumerate(steps)}

    async def handler(event: Event[Any], ctx: Context) -> None:
        if event.key in running:
            overlaps.append(f"{event.id} overlaps {running[event.key]}")
        running[event.key] = event.id
        begun.setdefault(event.key, []).append(int(event.id))
        plan = plans[event.id]
        what, seconds = plan.pop(0) if len(plan) > 1 else plan[0]
        try:
            await asyncio.sleep(seconds)
            match what:
                case "fail":
                    raise ValueError(event.id)
                case "reject":
                    raise Reject("x")
                case "retry":
                    raise Retry(after=seconds)
                case "down" if len(plan) > 1:
                    raise Unavailable("core")
        finally:
            running.pop(event.key, None)

    async def main() -> None:
        lanes = Lanes(handler, slots=slots, timeout=100.0)
        unsettled: dict[int, tuple[str, str]] = {}
        for number, (key, _, pause, lost) in enumerate(steps):
            if lost:
                await lose(lanes, unsettled)
            work = lanes.work(key, str(number))
            unsettled[work.delivery.position] = (key, str(number))
            lanes.dispatcher.submit([work])
            await asyncio.sleep(pause)
        await lanes.idle()
        assert not lanes.dispatcher.lanes
        ended = {name for name, what in lanes.endings if what != "Released"}
        assert ended == set(plans)

    async def lose(lanes: Lanes, unsettled: dict[int, tuple[str, str]]) -> None:
        """As a log does: what was not acked is delivered again, from the first of them on, on a new lease."""
        lanes.lease.close()
        await lanes.lease.drained(10.0)
        lanes.lease.lose()
        again = [event for position, event in unsettled.items() if position not in lanes.acked]
        lanes.lease = lanes.new_lease()
        unsettled.clear()
        for key, name in again:
            work = lanes.work(key, name)
            unsettled[work.delivery.position] = (key, name)
            for order in begun.values():
                while int(name) in order:
                    order.remove(int(name))
            lanes.dispatcher.submit([work])

    virtually(main)
    assert overlaps == []
    for key, order in begun.items():
        assert order == sorted(order), f"key {key} ran out of order: {order}"


def test_slots_fill_and_a_lane_that_waits_holds_none() -> None:
    """Invariant 4: with two slots, twenty lanes that wait for their retry do not keep an event of another key waiting."""

    async def handler(event: Event[Any], ctx: Context) -> None:
        if event.key != "quick":
            raise Retry(after=3600.0)
        await asyncio.sleep(1.0)

    async def main() -> None:
        lanes = Lanes(handler, slots=2)
        lanes.submit(*((f"k{number}", f"{number}") for number in range(20)))
        await asyncio.sleep(1.0)
        assert lanes.dispatcher.lane_states() == {"retrying": 20}
        lanes.submit(("quick", "q"))
        await asyncio.sleep(1.5)
        assert ("q", "Done") in lanes.endings

    virtually(main)


def test_sixty_four_slots_run_sixty_four_handlers() -> None:
    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            await asyncio.sleep(10.0)

        lanes = Lanes(handler, slots=64)
        lanes.submit(*((f"k{number}", f"{number}") for number in range(200)))
        await asyncio.sleep(0.5)
        assert (lanes.dispatcher.running, lanes.dispatcher.waiting) == (64, 136)
        await lanes.idle()
        assert lanes.clock() < 41.0, "200 handlers of 10 s in 64 slots take four rounds"

    virtually(main)


def test_waits_between_attempts_are_the_documented_ones_and_the_last_failure_is_dead() -> None:
    began: list[float] = []

    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            began.append(lanes.clock())
            assert ctx.attempt == len(began)
            raise ValueError("always")

        lanes = Lanes(handler)
        lanes.submit(("a", "1"))
        await lanes.idle()
        assert [round(b - a, 3) for a, b in pairwise(began)] == [1.0, 2.0]
        assert lanes.counts.attempts == {**dict.fromkeys(lanes.counts.attempts, 0), "retry": 2, "exhausted": 1}
        outcome = lanes.outcomes["1"]
        assert isinstance(outcome, Dead)
        assert outcome.reason == "exhausted"

    virtually(main)


def test_an_attempt_that_runs_too_long_is_cancelled_and_counted_as_timeout() -> None:
    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            await asyncio.sleep(1000.0)

        lanes = Lanes(handler, timeout=5.0)
        lanes.submit(("a", "1"))
        await lanes.idle()
        assert lanes.counts.attempts["timeout"] == 3
        outcome = lanes.outcomes["1"]
        assert isinstance(outcome, Dead)
        assert isinstance(outcome.error, AttemptTimeout)

    virtually(main)


def test_a_handler_that_swallows_its_cancellation_and_returns_is_still_timed_out() -> None:
    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            try:
                await asyncio.sleep(1000.0)
            except asyncio.CancelledError:
                return

        lanes = Lanes(handler, timeout=5.0)
        lanes.submit(("a", "1"))
        await lanes.idle()
        assert lanes.counts.attempts["timeout"] == 3
        assert lanes.counts.attempts["ok"] == 0

    virtually(main)


def test_a_hung_handler_makes_its_lane_hung_and_capacity_stays() -> None:
    async def main() -> None:
        freed = asyncio.Event()

        async def handler(event: Event[Any], ctx: Context) -> None:
            while event.key == "stubborn" and not freed.is_set():
                try:
                    await freed.wait()
                except asyncio.CancelledError:
                    continue

        lanes = Lanes(handler, timeout=2.0, slots=1)
        lanes.submit(("stubborn", "1"))
        await asyncio.sleep(6.0)
        lanes.submit(("other", "2"))
        await asyncio.sleep(0.5)
        hung_early = lanes.dispatcher.hung
        assert ("2", "Done") not in lanes.endings
        await asyncio.sleep(2.0)
        assert (hung_early, lanes.dispatcher.hung) == (False, True)
        assert lanes.dispatcher.lane_states()["hung"] == 1
        assert ("2", "Done") in lanes.endings
        freed.set()
        await lanes.idle()
        assert not lanes.dispatcher.hung

    virtually(main)


def test_a_cancelled_error_of_the_handlers_own_is_an_ordinary_failure() -> None:
    """Invariant 6, the half inside a run: cancellation is never an outcome, and never ends a slot."""

    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            task = asyncio.ensure_future(asyncio.sleep(10))
            task.cancel()
            await task

        lanes = Lanes(handler, slots=1)
        lanes.submit(("a", "1"), ("b", "2"))
        await lanes.idle()
        assert [what for _, what in lanes.endings] == ["Dead", "Dead"]
        assert lanes.counts.attempts["cancelled"] == 0

    virtually(main)


def test_cancellation_is_never_an_outcome() -> None:
    """Invariant 6: what runs when grace ends stays unsettled."""

    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            await asyncio.sleep(1000.0)

        lanes = Lanes(handler, slots=2)
        lanes.submit(("a", "1"), ("a", "2"), ("b", "3"))
        await asyncio.sleep(1.0)
        assert await lanes.dispatcher.drain(5.0) is False
        assert lanes.acked == []
        assert lanes.endings == [("2", "Released")], "only the queued one is given back"
        assert lanes.counts.attempts["cancelled"] == 2
        assert lanes.counts.outcomes["released"] == 3

    virtually(main)


def test_drain_lets_what_runs_finish_and_gives_back_what_waits() -> None:
    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            await asyncio.sleep(3.0)

        lanes = Lanes(handler, slots=2)
        lanes.submit(("a", "1"), ("a", "2"), ("b", "3"))
        await asyncio.sleep(1.0)
        assert await lanes.dispatcher.drain(5.0) is True
        assert sorted(lanes.endings) == [("1", "Done"), ("2", "Released"), ("3", "Done")]
        assert len(lanes.acked) == 2

    virtually(main)


def test_context_variables_do_not_leak_into_the_next_event() -> None:
    leak: contextvars.ContextVar[str] = contextvars.ContextVar("leak", default="clean")
    seen: list[str] = []

    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            seen.append(leak.get())
            leak.set(event.id)
            structlog.contextvars.bind_contextvars(event_id=event.id)

        lanes = Lanes(handler, slots=1)
        lanes.submit(*(("a", str(number)) for number in range(5)))
        await lanes.idle()
        assert seen == ["clean"] * 5

    virtually(main)


def test_backlog_is_bounded_in_events_and_in_bytes() -> None:
    """Invariant 9, the part that is the dispatcher's: room is given back only when events are settled."""

    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            await asyncio.sleep(1.0)

        lanes = Lanes(handler, slots=1, backlog=4, backlog_bytes=1_000_000)
        assert await lanes.dispatcher.backlog.room() == 4
        lanes.submit(*((str(number), str(number)) for number in range(4)))
        waiting = asyncio.ensure_future(lanes.dispatcher.backlog.room())
        await asyncio.sleep(0.5)
        assert not waiting.done()
        assert lanes.dispatcher.backlog.full
        assert await waiting == 1
        await lanes.idle()
        lanes.dispatcher.submit([lanes.work("big", "big", body=b"x" * 1_000_000)])
        waiting = asyncio.ensure_future(lanes.dispatcher.backlog.room())
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await lanes.idle()
        assert await waiting == 1, "the next may be as large again"
        assert lanes.dispatcher.backlog.bytes == 0

    virtually(main)


def test_a_closed_gate_holds_its_routes_and_one_probe_per_interval_tries() -> None:
    tries: list[float] = []

    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            tries.append(lanes.clock())
            await asyncio.sleep(0.3)
            if lanes.clock() < 60.0:
                raise Unavailable("core")

        lanes = Lanes(handler, needs=("core",))
        lanes.submit(*((f"k{number}", str(number)) for number in range(50)))
        await asyncio.sleep(59.0)
        gate = lanes.gatehouse.gate("core")
        assert gate.closed
        assert gate.closures == 1
        first = [at for at in tries if at < 1.0]
        later = [at for at in tries if at >= 1.0]
        assert len(later) >= 10, "an interval without a probe"
        assert len(first) <= 50
        assert all(b - a >= 4.99 for a, b in pairwise(later)), "more than one probe in an interval"
        await lanes.idle()
        assert [what for _, what in lanes.endings] == ["Done"] * 50
        assert lanes.clock() < 67.0, "one interval after recovery everything has run"

    virtually(main)


def test_one_event_that_alone_meets_an_outage_ends_exhausted_while_its_gate_stays_open() -> None:
    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            if event.key == "bad":
                raise Unavailable("core")

        lanes = Lanes(handler, needs=("core",))
        lanes.submit(("bad", "1"))
        for number in range(200):
            lanes.submit((f"good{number}", f"g{number}"))
            await asyncio.sleep(0.05)
        await lanes.idle()
        outcome = lanes.outcomes["1"]
        assert isinstance(outcome, Dead)
        assert outcome.reason == "exhausted"
        assert not lanes.gatehouse.gate("core").closed
        assert lanes.counts.attempts["wait"] == 2
        assert lanes.counts.attempts["exhausted"] == 1

    virtually(main)
