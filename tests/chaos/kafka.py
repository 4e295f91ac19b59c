"""Chaos on Kafka: workers of one group are killed and restarted, join and leave, while another client produces."""

import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from investbus.sandbox import CREDENTIALS, Fault, Platform, World
from tests.brokers.kafka import Kafka
from tests.chaos.checks import History, Kill, Sent, in_flight, repeats, violations
from tests.chaos.ledger import read_runs
from tests.chaos.workers import WorkerProcess

GROUP = "chaos"
PARTITIONS = 6
SETTLED_WITHIN = 120.0  # seconds after the last fault


class Report(msgspec.Struct, frozen=True):
    """What a run did and what it found."""

    seed: int
    events: int
    kills: int
    in_flight: int
    repeats: int
    samples: int
    exits: list[int]
    seconds: float
    violations: list[str]


class Chaos:
    """One run. Everything at random comes from `seed`; when things happen depends on the machine."""

    def __init__(self, kafka: Kafka, topic: str, folder: Path, *, events: int, keys: int, kills: int, seed: int) -> None:
        self._kafka, self._topic, self._folder = kafka, topic, folder
        self._events, self._kills, self._seed = events, kills, seed
        self._chance = random.Random(seed)
        self._world = World(seed, portfolios=keys)
        self._sent: dict[str, Sent] = {}
        self._killed: list[tuple[int, dict[int, int]]] = []  # and what was committed then
        self._exits: list[int] = []
        self._workers: list[WorkerProcess] = []

    async def run(self) -> Report:
        began = time.monotonic()
        async with Platform(self._world) as platform:
            platform.faults.add(Fault(path="/portfolios/*", ending="answer", delay=0.3))
            self._workers = [WorkerProcess(f"worker-{n}", self._folder, self._settings(platform.url)) for n in range(4)]
            with self._kafka.sampler(GROUP, self._topic) as sampler:
                try:
                    for worker in self._workers[:3]:
                        worker.start()
                    await asyncio.gather(self._produce(), self._nemesis())
                    await self._settle()
                    await self._leave(self._workers)
                finally:
                    for worker in self._workers:
                        if worker.running:
                            worker.kill()
        ends = self._kafka.end_offsets(self._topic)
        kills = self._kills_made()
        history = History(list(self._sent.values()), read_runs(self._folder), sampler.samples, kills, ends)
        found = violations(history) + [f"exit: a worker left with {code}" for code in self._exits if code]
        return Report(
            seed=self._seed,
            events=len(self._sent),
            kills=len(kills),
            in_flight=sum(kill.in_flight for kill in kills),
            repeats=repeats(history.runs),
            samples=len(sampler.samples),
            exits=self._exits,
            seconds=round(time.monotonic() - began, 1),
            violations=found,
        )

    def _settings(self, url: str) -> dict[str, Any]:
        kafka = {"bootstrap_servers": [self._kafka.bootstrap], "topic": self._topic, "group": GROUP, "session_timeout": 6.0}
        api = {"base_url": url, "access_key_id": CREDENTIALS[0], "secret_access_key": CREDENTIALS[1]}
        return {
            "handlers": ["tests.chaos.handlers:router"],
            "transport": "kafka",
            "kafka": kafka,
            "api": api,
            "ops": {"port": 0},
            "log": {"format": "json"},
        }

    async def _produce(self) -> None:
        """Keep events coming until the last kill, so that each hits work."""
        keys, number = list(self._world.portfolios), 0
        seqs = dict.fromkeys(keys, 0)
        pace = self._kills * 6.0 / self._events  # seconds per event
        while number < self._events:
            batch = []
            for _ in range(min(25, self._events - number)):
                key = self._chance.choice(keys)
                seqs[key] += 1
                number += 1
                batch.append((f"event-{number}", key, seqs[key]))
            messages = [(key, _body(*event), None) for event in batch for key in (event[1],)]
            places = await asyncio.to_thread(self._kafka.produce, self._topic, messages, "zstd")
            for (event_id, key, seq), (partition, offset) in zip(batch, places, strict=True):
                self._sent[event_id] = Sent(event_id, key, seq, partition, offset)
            await asyncio.sleep(pace * len(batch))

    async def _nemesis(self) -> None:
        for number in range(self._kills):
            await asyncio.sleep(self._chance.uniform(1.0, 6.0))
            worker = await self._at_work()
            worker.kill()
            committed = await asyncio.to_thread(self._kafka.committed, GROUP, self._topic)
            self._killed.append((worker.pid, committed))
            worker.start()
            _say(f"kill {number + 1} of {self._kills}: {worker.name}")
            if number % 5 == 2:
                self._workers[3].start()
                _say("worker-3 joins")
            elif number % 5 == 4 and self._workers[3].running:
                await self._until_at_work(self._workers[3])  # one that is still starting has no SIGTERM handler yet
                await self._leave([self._workers[3]])
                _say("worker-3 has left")

    async def _at_work(self) -> WorkerProcess:
        """One in the middle of an event: killing the others hits nothing."""
        while True:
            for worker in self._chance.sample(self._workers, len(self._workers)):
                if worker.running and any(run.end is None for run in read_runs(self._folder, worker.pid)[-50:]):
                    return worker
            await asyncio.sleep(0.1)

    async def _until_at_work(self, worker: WorkerProcess) -> None:
        while not read_runs(self._folder, worker.pid):
            await asyncio.sleep(0.2)

    def _kills_made(self) -> list[Kill]:
        """Counted at the end: an event can be handled before its producer has heard where it lies."""
        return [Kill(pid, in_flight(read_runs(self._folder, pid), self._sent, committed)) for pid, committed in self._killed]

    async def _leave(self, workers: list[WorkerProcess]) -> None:
        running = [worker for worker in workers if worker.running]
        self._exits += await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in running))

    async def _settle(self) -> None:
        """Until the group has committed everything."""
        ends = {partition: end for partition, end in self._kafka.end_offsets(self._topic).items() if end}
        deadline = time.monotonic() + SETTLED_WITHIN
        while time.monotonic() < deadline:
            if await asyncio.to_thread(self._kafka.committed, GROUP, self._topic) == ends:
                return
            await asyncio.sleep(0.5)
        _say(f"not settled after {SETTLED_WITHIN:g} s")


def _body(event_id: str, key: str, seq: int) -> bytes:
    envelope = {"id": event_id, "created": "2026-11-21T10:00:00Z", "version": "1.0.0"}
    return msgspec.json.encode(
        {**envelope, "subject": "portfolios", "action": "status-update", "data": {"id": key, "value": "ACTIVE", "seq": seq}}
    )


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)
