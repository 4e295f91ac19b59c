"""The demo put together: the platform, a worker on the `file` transport, and the stream between them."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import msgspec

from investbus import log
from investbus.assembly import Assembled, assembled, pieces
from investbus.config import Log
from investbus.demo.feed import Feed
from investbus.demo.folder import Folder
from investbus.demo.plan import Plan
from investbus.demo.progress import Look, Shown
from investbus.demo.trouble import trouble
from investbus.metrics import UNKNOWN
from investbus.sandbox import Platform, World, events

SEED = 12  # of 300 messages some are bad in each way, and each planned failure happens
PORTFOLIOS = 40
MISCHIEF = 0.08
PACE = 60.0  # events a second, so that there is something to see
LONGEST = 5.0  # seconds for the stream to be out, however many events it has
TRICKLE = 2.0
LOOK_EVERY = 0.1
STALLED = 30.0  # seconds without anything ending: something is wrong, and the summary will say what is missing


class Stage(msgspec.Struct, frozen=True):
    platform: Platform
    parts: Assembled
    plan: Plan
    feed: Feed

    def look(self) -> Look:
        metrics, unfinished = self.parts.worker.metrics, self.parts.worker.dispatcher.backlog.unfinished
        ends = Counter[str]()
        for route in metrics.routes.values():
            ends.update(route.outcomes)
        dead = ends["dead"] + metrics.route(UNKNOWN).dead["undecodable"]  # what is no event has no outcome
        skipped = ends["ignored"] + ends["duplicate"]
        return Look(ends["done"] + dead + skipped, ends["done"], dead, skipped, unfinished)


@asynccontextmanager
async def staged(folder: Folder, shown: Shown) -> AsyncIterator[Stage]:
    """Everything up but the worker, which is ready to be served."""
    world = World(SEED, PORTFOLIOS)
    async with Platform(world) as platform:
        settings = folder.furnish(platform.url)
        _log_to(folder, settings.log)
        table, transport, store = pieces(settings)
        plan = Plan(world, events(world, Random(SEED), mischief=MISCHIEF))
        async with assembled(settings, table, transport, store) as parts:
            yield Stage(platform, parts, plan, Feed(plan, transport, shown.say))


def _log_to(folder: Folder, settings: Log) -> None:
    """The worker's log goes to a file: on the terminal it would tear the progress."""
    log.configure(settings.model_copy(update={"format": "json"}))
    root = logging.getLogger()
    to_file = logging.FileHandler(folder.worker_log, encoding="utf-8")
    to_file.setFormatter(root.handlers[0].formatter)
    root.handlers[:] = [to_file]


async def play(stage: Stage, count: int, shown: Shown) -> float:
    """Send `count` events, with trouble, until all of them have ended or nothing moves any more. Returns how long that took."""
    loop = asyncio.get_running_loop()
    started = moved = loop.time()
    gate = stage.parts.gatehouse.gates["api"]
    feeding = asyncio.create_task(stage.feed.run(max(PACE, count / LONGEST), count))
    troubling = asyncio.create_task(trouble(stage.platform, gate, lambda: stage.feed.sent / count, shown.say))
    last = stage.look()
    try:
        while not _settled(stage, count) and loop.time() - moved < STALLED:
            await asyncio.sleep(LOOK_EVERY)
            shown.show(look := stage.look())
            if look != last:
                last, moved = look, loop.time()
            for task in (feeding, troubling):
                if task.done():
                    task.result()
    finally:
        feeding.cancel()
        troubling.cancel()
        stage.platform.faults.clear()
    return loop.time() - started


def _settled(stage: Stage, count: int) -> bool:
    """Whether the worker has ended so many messages and the bus knows of all of them."""
    return stage.look().ended >= count <= stage.parts.worker.transport.counts.ok
