"""The pretend platform alone: what `investbus sandbox` runs, for a worker that somebody else starts."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from random import Random

from investbus.assembly import make_transport
from investbus.config import Settings
from investbus.demo.feed import Feed
from investbus.errors import ConfigError
from investbus.sandbox import CREDENTIALS, Platform, World, events

SEED = 1  # the same portfolios at every start; what happens to them differs
MISCHIEF = 0.02
COUNT_EVERY = 10.0
FLUSH_TIMEOUT = 5.0


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


async def stand_alone(
    settings: Settings, port: int, rate: float, portfolios: int, tell: Callable[[Mapping[str, str]], None]
) -> int:
    """Serve and send until SIGTERM or SIGINT; the exit code. Raises ConfigError."""
    if settings.transport == "memory":
        raise ConfigError(["transport: memory ends with this process; configure another bus for the sandbox to send to"])
    transport = make_transport(settings)
    world = World(SEED, portfolios)
    platform = Platform(world, port=port)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(platform)
        except OSError as error:
            raise ConfigError(
                [f"--port {port}: cannot be listened on: {os.strerror(error.errno or 0)}; name another one, or 0 for any"]
            ) from None
        stack.push_async_callback(transport.close, FLUSH_TIMEOUT)
        feed = Feed(events(world, Random(), mischief=MISCHIEF), transport, say)
        key_id, key = CREDENTIALS
        tell({"api.base_url": platform.url, "api.access_key_id": key_id, "api.secret_access_key": key})
        say(f"{rate:g} events a second go to {transport.source}, one in {1 / MISCHIEF:.0f} bad on purpose; Ctrl-C stops")
        await _until_stopped(feed, platform, rate)
    return 0


async def _until_stopped(feed: Feed, platform: Platform, rate: float) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stopping, feeding = asyncio.create_task(stop.wait()), asyncio.create_task(feed.run(rate))
    try:
        while not stopping.done() and not feeding.done():
            await asyncio.wait((stopping, feeding), timeout=COUNT_EVERY, return_when="FIRST_COMPLETED")
            ended = "stopped; " if stopping.done() else ""
            say(f"{ended}{feed.sent} events sent, {platform.calls.counts.total()} calls answered")
        if feeding.done():
            feeding.result()
    finally:
        feeding.cancel()
        stopping.cancel()
        await asyncio.wait((feeding, stopping))
