"""Slots outlive what handlers do to their task: cancel it, hang in it, leave context variables in it. None lost, none added."""

import asyncio
from contextvars import ContextVar
from typing import Any

from investbus import Router
from investbus.assembly import assembled
from investbus.config import Settings
from investbus.config_bus import Memory as MemorySettings
from investbus.context import Context
from investbus.event import Event
from investbus.outcome import AttemptTimeout, Dead
from investbus.router import RouteTable
from investbus.stores.memory import MemoryStore
from investbus.transport import Message
from investbus.transports.memory import Memory
from tests.lanes import Lanes, virtually
from tests.whole import envelope, until

left_behind: ContextVar[str] = ContextVar("left_behind", default="clean")


def running_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def test_a_handler_that_cancels_its_own_task_has_failed_like_any_other() -> None:
    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            if event.id == "cancels" and ctx.attempt < 3:
                running_task().cancel()
                await asyncio.sleep(1.0)

        lanes = Lanes(handler, slots=1)
        lanes.submit(("a", "cancels"), ("a", "next"), ("b", "other"))
        await lanes.idle()
        assert sorted(lanes.endings) == [("cancels", "Done"), ("next", "Done"), ("other", "Done")]
        assert (lanes.counts.attempts["retry"], lanes.counts.attempts["cancelled"]) == (2, 0)
        assert len(lanes.acked) == 3

    virtually(main)


def test_a_run_that_another_handler_cancels_is_tried_again() -> None:
    async def main() -> None:
        runs: dict[str, asyncio.Task[Any]] = {}

        async def handler(event: Event[Any], ctx: Context) -> None:
            runs[event.id] = running_task()
            if event.id == "cancels":
                runs["cancelled"].cancel()
            await asyncio.sleep(5.0)

        lanes = Lanes(handler, slots=2)
        lanes.submit(("a", "cancelled"))
        await asyncio.sleep(1.0)
        lanes.submit(("b", "cancels"))
        await lanes.idle()
        assert lanes.endings == [("cancels", "Done"), ("cancelled", "Done")]
        assert lanes.counts.attempts["retry"] == 1

    virtually(main)


def test_a_cancellation_left_over_does_not_count_against_the_next_event_or_its_time_out() -> None:
    """A handler that cancels its own task and swallows that: the next event in the slot still expires on time."""

    async def main() -> None:
        left_over: list[int] = []

        async def handler(event: Event[Any], ctx: Context) -> None:
            left_over.append(running_task().cancelling())
            if event.id.startswith("swallows"):
                running_task().cancel()
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    return
            if event.id.startswith("unheard"):
                running_task().cancel()
                return
            if event.id == "slow":
                await asyncio.sleep(100.0)
            await asyncio.sleep(0.5)

        lanes = Lanes(handler, slots=1, timeout=1.0)
        lanes.submit(*((f"k{number}", name) for number, name in enumerate(("swallows", "one", "unheard", "two", "slow", "three"))))
        await lanes.idle(limit=60.0)
        assert set(left_over) == {0}
        assert {name: what for name, what in lanes.endings if what != "Done"} == {"slow": "Dead"}
        assert lanes.counts.attempts["retry"] == 0, "none of them has failed"
        outcome = lanes.outcomes["slow"]
        assert isinstance(outcome, Dead)
        assert isinstance(outcome.error, AttemptTimeout)

    virtually(main)


def test_slots_cancelled_while_they_were_idle_are_replaced() -> None:
    """A handler's own timer that cancels its task too late: by then that task waits, or runs somebody else."""

    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            asyncio.get_running_loop().call_later(1.0, running_task().cancel)
            await asyncio.sleep(0.1)

        lanes = Lanes(handler, slots=4)
        for number in range(12):
            lanes.submit(*((f"k{number}{key}", f"e{number}{key}") for key in "abc"))
            await lanes.idle(limit=50.0)
            await asyncio.sleep(2.0)
            assert len(lanes.dispatcher.slots._tasks) == 4
        assert [what for _, what in lanes.endings] == ["Done"] * 36

    virtually(main)


def test_a_slot_cancelled_between_its_wake_up_and_its_turn_leaves_the_others_awake() -> None:
    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            if event.id == "cancels":
                lanes.submit(("b", "woken"))
                for task in lanes.dispatcher.slots._tasks - {running_task()}:
                    task.cancel()

        lanes = Lanes(handler, slots=3)
        await asyncio.sleep(1.0)
        for number, name in enumerate(("cancels", "after", "cancels", "last")):
            lanes.submit((f"k{number}", name))
            await lanes.idle(limit=50.0)
        assert sorted(name for name, _ in lanes.endings) == ["after", "cancels", "cancels", "last", "woken", "woken"]
        assert len(lanes.dispatcher.slots._tasks) == 3

    virtually(main)


def test_hung_handlers_that_leave_context_variables_behind_add_no_slots() -> None:
    async def main() -> None:
        async def handler(event: Event[Any], ctx: Context) -> None:
            left_behind.set(f"{event.id} {ctx.attempt}")
            ends = lanes.clock() + 20.0
            while event.id.startswith("hang") and ctx.attempt == 1 and lanes.clock() < ends:
                try:
                    await asyncio.sleep(1.0)
                except asyncio.CancelledError:
                    continue

        lanes = Lanes(handler, timeout=2.0, slots=4)
        for number in range(5):
            lanes.submit((f"k{number}", f"hang{number}"), (f"l{number}", f"well{number}"))
            await asyncio.sleep(10.0)
            assert lanes.dispatcher.hung
            assert len(lanes.dispatcher.slots._tasks) == 5, "one more while one hangs"
            await lanes.idle()
            assert len(lanes.dispatcher.slots._tasks) == 4
        assert [what for _, what in lanes.endings] == ["Done"] * 10

    virtually(main)


def test_nobody_sees_the_context_variables_of_a_run_that_failed_expired_or_hung() -> None:
    async def main() -> None:
        seen: list[str] = []

        async def handler(event: Event[Any], ctx: Context) -> None:
            seen.append(left_behind.get())
            left_behind.set(event.id)
            if event.id == "fails":
                raise ValueError("no")
            while event.id in ("expires", "hangs"):
                try:
                    await asyncio.sleep(20.0)
                except asyncio.CancelledError:
                    if event.id == "expires":
                        raise
                    await asyncio.sleep(20.0)
                    return

        lanes = Lanes(handler, timeout=2.0, slots=1)
        lanes.submit(("a", "fails"), ("b", "expires"), ("c", "hangs"), ("d", "sees"))
        await lanes.idle()
        assert len(seen) == 10, "three attempts each, and one"
        assert set(seen) == {"clean"}

    virtually(main)


def test_a_slot_that_replaces_a_cancelled_one_sees_no_context_variables_either() -> None:
    async def main() -> None:
        seen: list[str] = []

        async def handler(event: Event[Any], ctx: Context) -> None:
            seen.append(left_behind.get())
            if event.id == "leaves":
                left_behind.set("leaves")
            if event.id == "cancels":
                asyncio.get_running_loop().call_later(1.0, running_task().cancel)

        lanes = Lanes(handler, slots=1)
        for number, name in enumerate(("leaves", "cancels", "sees", "sees too")):
            lanes.submit((f"k{number}", name))
            await asyncio.sleep(5.0)
        assert seen == ["clean"] * 4

    virtually(main)


class Incomparable:
    """As arrays are, and some models."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of this is ambiguous")

    __hash__ = None  # type: ignore[assignment]  # as Python itself sets it


def test_context_variables_that_cannot_be_compared_neither_end_the_worker_nor_leak() -> None:
    """One that was set before the worker began, by the bank's lifespan, and that a handler sets anew."""
    variable: ContextVar[Incomparable] = ContextVar("variable")

    async def main() -> None:
        seen: list[Incomparable] = []

        async def handler(event: Event[Any], ctx: Context) -> None:
            seen.append(variable.get())
            variable.set(Incomparable())

        variable.set(first := Incomparable())
        lanes = Lanes(handler, slots=1)
        lanes.submit(*(("a", str(number)) for number in range(3)))
        await lanes.idle(limit=50.0)
        assert [one is first for one in seen] == [True] * 3

    virtually(main)


async def test_a_worker_whose_run_is_cancelled_leaves_no_slot_behind() -> None:
    async def slow(event: Event[Any], ctx: Context) -> None:
        await asyncio.sleep(3600.0)

    router = Router()
    router.on("a.b")(slow)
    before = asyncio.all_tasks()
    bus = Memory(MemorySettings(), drain_cap=1.0, max_gap=100)
    await bus.publish([Message(envelope("a.b"))])
    async with assembled(Settings(transport="memory"), RouteTable(list(router.found())), bus, MemoryStore()) as parts:
        run = asyncio.create_task(parts.worker.run())
        await until(lambda: parts.worker.dispatcher.running == 1)
        run.cancel()
        await asyncio.wait((run,))
        await until(lambda: asyncio.all_tasks() == before)
    assert run.cancelled()
