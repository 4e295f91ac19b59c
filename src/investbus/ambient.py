"""Time and chance, passed in: tests run hours of retries in milliseconds because nothing below reads a clock by itself."""

import asyncio
import random
import time
from collections.abc import Callable

import msgspec


class Ambient(msgspec.Struct, frozen=True):
    """`monotonic` for waits and durations (seconds, the event loop's clock), `wall` for timestamps (unix seconds), `chance` a
    random number in [0, 1)."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]
    chance: Callable[[], float]


def real() -> Ambient:
    """The machine's own; inside a running event loop."""
    return Ambient(asyncio.get_running_loop().time, time.time, random.random)
