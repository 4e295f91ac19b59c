"""Whatever operators ask for while events come and die: each event is done once, and where keys park, in order."""

import asyncio
import random
from typing import Any, Literal

import pytest

from investbus import Context, Event, Reject, Retry, Router
from investbus.mailbox import ACTIVE, EVERYTHING, Pause
from investbus.store import Filter
from investbus.testing.bus import Bus
from investbus.transport import Message
from tests.test_replays import NOON, ask
from tests.whole import check_law, envelope

AfterDead = Literal["park", "continue"]
ACTS = ("publish", "publish", "publish", "mend", "replay", "replay", "cancel", "lose lease", "pause", "resume")


class History:
    """One worker that gets the events and one that does not, over one store; what is asked of them comes from a seed."""

    def __init__(self, seed: int, bus: Bus, after_dead: AfterDead) -> None:
        self.chance = random.Random(seed)
        self.bus, self.beside = bus, Bus()
        self.beside._store = bus._store
        self.bad: set[str] = set()
        self.done: list[tuple[str, int]] = []  # key and number of each event, in the order of their effects
        self.published = 0
        self.replays = 0
        for one in (bus, self.beside):
            router = Router()
            for name in ("a.b", "a.c"):
                router.on(name, needs=(), after_dead=after_dead, retry={"first": 0.1, "max": 0.5})(self._handler)
            slots = self.chance.choice([1, 4, 64])
            one.use(router, settings={"store": {"flood_after": 1000}, "dispatch": {"slots": slots}})

    async def _handler(self, event: Event[dict[str, Any]], ctx: Context) -> None:
        await asyncio.sleep(self.chance.choice([0.0, 0.0, 0.05, 1.5]))
        if event.id in self.bad:
            raise self.chance.choice([Reject("broken"), RuntimeError("broken")])
        if self.chance.random() < 0.1:
            raise Retry(after=self.chance.random())
        self.done.append((event.key, int(event.id)))

    async def act(self) -> None:
        """One act, and some time."""
        match self.chance.choice(ACTS):
            case "publish":
                await self._publish()
            case "mend":
                self.bad = {one for one in self.bad if self.chance.random() < 0.5}
            case "replay":
                await self.replay(self.chance.choice(["open", "open", "parked", None]))
            case "cancel":
                await self.bus._store.cancel_replay(f"r{self.chance.randint(1, self.replays + 1)}", "ann", NOON)
            case "lose lease":
                await self.bus.lose_lease()
            case "pause":
                await self.bus._store.pause(Pause(self.chance.choice(["a.b", EVERYTHING]), "operator", "", "ann", NOON))
            case "resume":
                await self.resume()
        await self.bus.advance(self.chance.choice([0.1, 1.0, 5.0]))

    async def _publish(self) -> None:
        assert self.bus._transport is not None
        for _ in range(self.chance.randint(1, 8)):
            self.published += 1
            event_id, name = str(self.published), self.chance.choice(["a.b", "a.c"])
            if self.chance.random() < 0.2:
                self.bad.add(event_id)
            await self.bus._transport.publish([Message(envelope(name, event_id, data={"id": f"P{self.chance.randint(1, 4)}"}))])

    async def replay(self, state: Any, **changes: Any) -> None:
        self.replays += 1
        how = {"rate": self.chance.choice([1.0, 5.0, 1000.0]), "stop_after": self.chance.randint(1, 5)}
        await ask(self.bus, f"r{self.replays}", Filter(state=state), **(how | changes))

    async def resume(self) -> None:
        for route in ("a.b", EVERYTHING):
            await self.bus._store.resume(route, "ann", "", NOON)


@pytest.mark.parametrize("after_dead", ["park", "continue"])
@pytest.mark.parametrize("seed", range(8))
async def test_whatever_operators_ask_for_each_event_is_done_once(bus: Bus, seed: int, after_dead: AfterDead) -> None:
    history = History(seed, bus, after_dead)
    parts = [await one._started() for one in (bus, history.beside)]
    for _ in range(30):
        await history.act()
    history.bad.clear()
    await history.resume()
    for _ in range(6):
        await bus.advance(300.0)
        await history.replay("open", stop_after=1000)
    await bus.advance(300.0)
    assert {letter.state for letter in bus.dead_letters} <= {"replayed"}
    assert sorted(number for _, number in history.done) == list(range(1, history.published + 1))
    for key in {key for key, _ in history.done} if after_dead == "park" else ():
        of_key = [number for one, number in history.done if one == key]
        assert of_key == sorted(of_key)
    for row in await bus._store.list_replays(999):
        assert row.state not in ACTIVE
        assert row.state != "done" or row.done + row.dead + row.skipped == row.planned
    for one in parts:
        check_law(one)
    await history.beside.stop()
