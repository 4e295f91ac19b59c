"""A run: workers are killed, rolled, join and leave while another client publishes; then everything has to have come right."""

import asyncio
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from investbus.sandbox import CREDENTIALS, Fault, Platform, World
from tests.chaos.bus import Bus
from tests.chaos.checks import repeats, violations
from tests.chaos.history import Departure, History, Sent, in_flight
from tests.chaos.ledger import read_runs
from tests.chaos.workers import WorkerProcess

NOTICED = 1.0  # seconds after a kill by which any bus has seen the connection end
MOVES_WITHIN = 60.0  # seconds after any fault
DOOMED = 0.02  # of the events are rejected
BATCH = 25
SLOWER = 4  # is the pace once enough is published, and kills are still to come


class Plan(msgspec.Struct, frozen=True):
    """What a run is to do. Everything at random comes from `seed`; when things happen depends on the machine."""

    seed: int
    events: int = 10_000  # at least so many: they keep coming until the last kill, so that each hits work
    keys: int = 1_000
    kills: int = 20
    workers: int = 3  # one more joins and leaves
    pause: tuple[float, float] = (1.0, 6.0)  # seconds between two faults
    handling: float = 0.5  # seconds that a handler takes


class Report(msgspec.Struct, frozen=True):
    """What a run did and what it found."""

    plan: Plan
    published: int
    in_flight: int
    repeats: int
    dead: dict[str, int]
    exits: list[int]
    seconds: float
    violations: list[str]


class Chaos:
    """One run on one bus."""

    def __init__(self, bus: Bus, folder: Path, plan: Plan) -> None:
        self._bus, self._folder, self._plan = bus, folder, plan
        self._chance = random.Random(plan.seed)
        self._world = World(plan.seed, portfolios=plan.keys)
        self._sent: list[Sent] = []
        self._departures: list[Departure] = []
        self._exits: list[int] = []
        self._workers: list[WorkerProcess] = []
        self._raging = True
        self._began = time.monotonic()

    async def run(self) -> Report:
        async with Platform(self._world) as platform, self._bus.watched():
            platform.faults.add(Fault(path="/portfolios/*", ending="answer", delay=self._plan.handling))
            settings = self._settings(platform.url)
            self._workers = [WorkerProcess(f"worker-{n}", self._folder, settings) for n in range(self._plan.workers + 1)]
            try:
                for worker in self._workers[:-1]:
                    worker.start()
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._publish())
                    both.create_task(self._rage())
                self._say(f"{len(self._sent)} events are published")
                await self._settle()
                self._look_for_fallen()
                await asyncio.gather(*(self._leave(worker) for worker in self._workers if worker.running))
            finally:
                for worker in self._workers:
                    if worker.running:
                        worker.kill()
        return await self._report()

    async def _report(self) -> Report:
        dead = [letter for worker in self._workers for letter in await worker.dead_letters()]
        runs, settled = read_runs(self._folder), self._bus.settled()
        history = History(self._sent, runs, self._departures, settled, self._bus.returned(), dead, self._bus.keyed)
        (self._folder / "history.json").write_bytes(msgspec.json.encode(history))  # for whoever has to explain a violation
        unclean = [f"exit: a worker that was told to leave left with {code}" for code in self._exits if code]
        return Report(
            plan=self._plan,
            published=len(self._sent),
            in_flight=sum(len(caught) for _, caught in in_flight(history)),
            repeats=repeats(runs),
            dead=Counter(letter.reason for letter in dead),
            exits=self._exits,
            seconds=round(time.monotonic() - self._began, 1),
            violations=violations(history) + self._bus.violations() + unclean,
        )

    def _settings(self, url: str) -> dict[str, Any]:
        api = {"base_url": url, "access_key_id": CREDENTIALS[0], "secret_access_key": CREDENTIALS[1], "concurrency": 64}
        return {"handlers": ["tests.chaos.handlers:router"], "api": api, "log": {"format": "json"}, **self._bus.settings()}

    # ---- events

    async def _publish(self) -> None:
        chance, keys = random.Random(self._plan.seed + 1), list(self._world.portfolios)
        seqs = dict.fromkeys(keys, 0)
        pace = BATCH * self._plan.kills * self._plan.pause[1] / self._plan.events  # seconds per batch
        while self._raging or len(self._sent) < self._plan.events:
            batch: list[Sent] = []
            for _ in range(BATCH):
                key = chance.choice(keys)
                seqs[key] += 1
                name = f"event-{len(self._sent) + len(batch)}"
                batch.append(Sent(name, key, seqs[key], chance.random() < DOOMED, time.monotonic()))
            self._sent += batch
            await asyncio.to_thread(self._bus.publish, batch)
            slow = SLOWER if len(self._sent) >= self._plan.events else 1
            await asyncio.sleep(pace * slow if self._raging else 0)

    # ---- faults

    async def _rage(self) -> None:
        guest = self._workers[-1]
        for number in range(self._plan.kills):
            await self._calm()
            victim = await self._at_work()
            self._kill(victim)
            victim.start()
            self._say(f"kill {number + 1} of {self._plan.kills}: {victim.name}")
            await self._calm()
            match number % 3:
                case 0:
                    guest.start()
                    self._say(f"{guest.name} joins")
                case 1:
                    rolled = await self._at_work()
                    await self._leave(rolled)
                    rolled.start()
                    self._say(f"{rolled.name} has been rolled")
                case 2:
                    await self._until_ready(guest)
                    await self._leave(guest)
                    self._say(f"{guest.name} has left")
        self._raging = False

    async def _calm(self) -> None:
        shortest, longest = self._plan.pause
        await asyncio.sleep(self._chance.uniform(shortest / 2, longest / 2))

    async def _at_work(self) -> WorkerProcess:
        """One in the middle of an event: killing the others hits nothing."""
        deadline = time.monotonic() + MOVES_WITHIN
        while time.monotonic() < deadline:
            self._look_for_fallen()
            for worker in self._chance.sample(self._workers, len(self._workers)):
                if worker.running and any(run.end is None for run in read_runs(self._folder, worker.pid)[-50:]):
                    return worker
            await asyncio.sleep(0.1)
        raise RuntimeError(f"nobody has been at work for {MOVES_WITHIN:g} s; see the logs in {self._folder}")

    async def _until_ready(self, worker: WorkerProcess) -> None:
        """One that is still starting has no handler of SIGTERM yet."""
        async with asyncio.timeout(MOVES_WITHIN):
            while not await asyncio.to_thread(worker.ready):
                self._look_for_fallen()
                await asyncio.sleep(0.1)

    def _look_for_fallen(self) -> None:
        for worker in self._workers:
            if worker.fallen is not None:
                raise RuntimeError(f"{worker.name} ended by itself with {worker.fallen}; see {self._folder / worker.name}.log")

    def _kill(self, worker: WorkerProcess) -> None:
        at = time.monotonic()
        worker.kill()
        self._departures.append(Departure(worker.pid, True, at, time.monotonic() + NOTICED))

    async def _leave(self, worker: WorkerProcess) -> None:
        at = time.monotonic()
        self._exits.append(await asyncio.to_thread(worker.stop))
        self._departures.append(Departure(worker.pid, False, at, time.monotonic() + NOTICED))

    async def _settle(self) -> None:
        """Until the bus needs nothing of it any more, or nothing moves."""
        done, moved = 0, time.monotonic()
        while not await asyncio.to_thread(self._bus.drained):
            before, done = done, sum(ledger.stat().st_size for ledger in self._folder.glob("ledger-*"))
            if done > before:
                moved = time.monotonic()
            elif time.monotonic() - moved > MOVES_WITHIN:
                self._say(f"not settled, and nothing has moved for {MOVES_WITHIN:g} s")
                return
            await asyncio.sleep(0.2)
        self._say("everything is settled")

    def _say(self, line: str) -> None:
        print(f"{time.monotonic() - self._began:7.1f} s  {line}", file=sys.stderr, flush=True)
