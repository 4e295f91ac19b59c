"""Many dead letters, a mended handler, and a worker that is killed in the middle of the replay."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from investbus.mailbox import ACTIVE, Replay
from investbus.store import Filter
from investbus.stores import open_store
from tests.acceptance.handlers import MENDED
from tests.acceptance.replica import Replica, on_kafka, wait
from tests.brokers.kafka import Kafka
from tests.whole import envelope

CAUSES = (("portfolios.status-update", "account"), ("portfolios.status-update", "price"), ("portfolios.creation", "customer"))
UNDER_WAY = 128  # letters of one worker at the most
LIMIT = 600.0  # seconds for each of its steps


class Report(NamedTuple):
    """What came of it. `..._in` are seconds."""

    groups: list[tuple[str, str, int]]
    died_in: float
    listed_in: float
    canary: Replay
    canary_runs: int
    half: int  # letters that had come to something when the worker was killed
    replay: Replay
    replayed_in: float
    states: Counter[str]
    effects: Counter[str]  # by event
    ends: tuple[dict[int, int], dict[int, int]]  # of the topic, before and after


class Rehearsal:
    """`url` is the store that both workers share, or have one after the other."""

    def __init__(self, kafka: Kafka, topic: str, folder: Path, url: str, letters: int) -> None:
        self._kafka, self._topic, self._folder, self._url, self._letters = kafka, topic, folder, url, letters
        once = {"attempts": 1, "first": 0.05, "factor": 1.0}
        store = {"url": url, "flood_after": letters + 1}
        self._settings = on_kafka(kafka, topic, "letters", url, retry=once) | {"store": store}

    def run(self, rate: float) -> Report:
        first, second = (Replica(name, self._folder, self._settings) for name in ("first", "second"))
        with first, second:
            self._publish()
            first.start()
            began = time.monotonic()
            wait(lambda: len(first.noted("refused")) == self._letters, LIMIT)
            wait(lambda: self._stored == self._letters, LIMIT)
            died_in, began = time.monotonic() - began, time.monotonic()
            _, rows = first.ask("dlq", "list", "--group")
            listed_in = time.monotonic() - began
            before = self._kafka.end_offsets(self._topic)
            canary = self._ended(self._asked(first, rate))
            canary_runs = len(first.noted("refused")) - self._letters
            (self._folder / MENDED).touch()
            asked, began = self._asked(first, rate), time.monotonic()
            wait(lambda: self._found(asked).done >= self._letters // 2, LIMIT)
            first.kill()
            half = self._found(asked).done
            second.start()
            replay, replayed_in = self._ended(asked), time.monotonic() - began
            assert second.stop() == 0
        return Report(
            groups=sorted((row["route"], row["error"], row["count"]) for row in rows),
            died_in=died_in,
            listed_in=listed_in,
            canary=canary,
            canary_runs=canary_runs,
            half=half,
            replay=replay,
            replayed_in=replayed_in,
            states=asyncio.run(self._states()),
            effects=Counter(one.event_id for one in first.noted("effect")),
            ends=(before, self._kafka.end_offsets(self._topic)),
        )

    def _publish(self) -> None:
        made = []
        for number in range(self._letters):
            name, cause = CAUSES[number % len(CAUSES)]
            made.append((f"P{number}", envelope(name, f"e{number}", data={"id": f"P{number}", "cause": cause}), None))
        self._kafka.produce(self._topic, made, timeout=120.0)

    def _asked(self, replica: Replica, rate: float) -> str:
        """The id of a replay of everything that is open."""
        words = ("dlq", "replay", "--state", "open", "--rate", f"{rate:g}", "--yes", "--note", "rehearsal")
        code, asked = replica.ask(*words)
        assert code == 0
        assert asked["planned"] == self._letters
        return str(asked["id"])

    def _ended(self, replay_id: str) -> Replay:
        wait(lambda: self._found(replay_id).state not in ACTIVE, LIMIT)
        return self._found(replay_id)

    def _found(self, replay_id: str) -> Replay:
        found = asyncio.run(self._with_store(lambda store: store.get_replay(replay_id)))
        assert isinstance(found, Replay)
        return found

    @property
    def _stored(self) -> int:
        counts: dict[str, Any] = asyncio.run(self._with_store(lambda store: store.open_dead()))
        return sum(one.count for one in counts.values())

    async def _states(self) -> Counter[str]:
        store = open_store(self._url)
        await store.open()
        try:
            return Counter([letter.state async for letter in store.export_dead(Filter())])
        finally:
            await store.close()

    async def _with_store(self, ask: Any) -> Any:
        store = open_store(self._url)
        await store.open()
        try:
            return await ask(store)
        finally:
            await store.close()
