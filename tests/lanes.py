"""A dispatcher on a virtual clock, without transport or store: for tests of order, slots, waits and cancellation."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from investbus.ambient import Ambient
from investbus.config import Dispatch, GateSettings
from investbus.context import Context, Resources
from investbus.dispatcher import Dispatcher
from investbus.event import Event
from investbus.gatehouse import Gatehouse
from investbus.metrics import RouteCounts
from investbus.outcome import Dead, Done, Duplicate, Ending, Outcome
from investbus.pauses import Pauses
from investbus.retry import RetryPolicy
from investbus.settle import settle
from investbus.testing import VirtualLoop
from investbus.transport import Delivery, Lease, SettleCounts
from investbus.work import Route, Work

POLICY = RetryPolicy(attempts=3, first=1.0, factor=2.0, jitter=0.0)
Handler = Callable[[Event[Any], Context], Coroutine[Any, Any, None]]


started: list[Dispatcher] = []  # by the test that runs


class Lanes:
    """Submits events `(key, number)` and notes how each ended."""

    def __init__(
        self, handler: Handler, *, timeout: float = 20.0, needs: tuple[str, ...] = (), **dispatch: Any
    ) -> None:
        clock = asyncio.get_running_loop().time
        ambient = Ambient(clock, clock, lambda: 0.0)
        self.clock = clock
        self.gatehouse = Gatehouse(GateSettings(), ambient)
        self.dispatcher = Dispatcher(
            Dispatch(**dispatch), self.gatehouse, Pauses(), None, Resources(None, 0.0), ambient, self._finish, self._release
        )
        gates = tuple(self.gatehouse.gate(name) for name in needs)
        self.counts = RouteCounts()
        self.route = Route("a.b", handler, "tests:handler", "tests:1", self.counts, timeout, POLICY, gates)
        self.settles = SettleCounts()
        self.acked: list[int] = []
        self.endings: list[tuple[str, str]] = []
        self.outcomes: dict[str, Outcome] = {}
        self.positions = 0
        self.lease = self.new_lease()
        self.dispatcher.start()
        started.append(self.dispatcher)

    def new_lease(self) -> Lease:
        lease = Lease(self.acked.append, self.settles)
        lease.on_closing(self.dispatcher.drop)
        return lease

    def work(self, key: str, name: str, lease: Lease | None = None, body: bytes = b"{}") -> Work:
        lease = lease or self.lease
        lease.unsettled += 1
        self.positions += 1
        delivery = Delivery(body, {}, "test:events", self.positions, lease)
        event: Event[Any] = Event(name, None, "", "1.0.0", "a", "b", "a.b", key, {}, body)
        return Work(event, delivery, self.route, self.clock(), self.clock())

    def submit(self, *events: tuple[str, str]) -> None:
        self.dispatcher.submit([self.work(key, name) for key, name in events])

    async def idle(self, limit: float = 2_000.0) -> None:
        """Until everything has ended."""
        ends = self.clock() + limit
        while self.dispatcher.backlog.unfinished:
            if self.dispatcher.slots.crashed.done():
                self.dispatcher.slots.crashed.result()
            assert self.clock() < ends, f"{self.dispatcher.backlog.unfinished} events never ended"
            await asyncio.sleep(0.25)

    def _finish(self, work: Work, outcome: Outcome) -> None:
        self.outcomes[work.event.id] = outcome
        self.endings.append((work.event.id, type(outcome).__name__))
        if isinstance(outcome, Dead):
            self.dispatcher.stored(work)
        endings: dict[type, Ending] = {Done: "done", Duplicate: "duplicate", Dead: "dead"}
        settle(work.delivery, self.counts, endings[type(outcome)])
        self.dispatcher.backlog.forget(work)

    def _release(self, work: Work) -> None:
        self.endings.append((work.event.id, "Released"))
        settle(work.delivery, self.counts, "released")
        self.dispatcher.backlog.forget(work)


def virtually(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` in virtual time."""

    async def within() -> None:
        try:
            await main()
        finally:
            for dispatcher in started:
                await dispatcher.drain(0.0)
            started.clear()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(within())
