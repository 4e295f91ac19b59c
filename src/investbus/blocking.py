"""Names the handler that blocks the event loop.

A handler that computes for seconds, or calls a library that waits by itself, stops every other handler, the heartbeats and the
probes, and from outside it looks as if everything were slow. Only a thread can see it while it happens: one looks four times a
second whether the loop still turns, and if not, what its thread is doing.
"""

import asyncio
import sys
import threading
import time
import traceback
from types import FrameType

import structlog

from investbus.attempt import Attempts
from investbus.work import Work

log = structlog.get_logger("investbus.blocking")
LOOK_EVERY = 0.25  # seconds
BLOCKED_AFTER = 1.0
LINES = 25  # of the stack, the innermost


class BlockingWatch:
    """Runs from `start` to `stop`, beside the event loop that starts it."""

    def __init__(self) -> None:
        self._beat = time.monotonic()
        self._ended = threading.Event()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop, thread = asyncio.get_running_loop(), threading.get_ident()
        self._turn(loop)
        threading.Thread(target=self._watch, args=(thread,), name="investbus-blocking", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beat = time.monotonic()
        self._timer = loop.call_later(LOOK_EVERY, self._turn, loop)

    def _watch(self, thread: int) -> None:
        told = 0.0  # the beat after which it was told
        while not self._ended.wait(LOOK_EVERY):
            beat = self._beat
            if beat == told or time.monotonic() - beat < BLOCKED_AFTER:
                continue
            told = beat
            if (frame := sys._current_frames().get(thread)) is not None:  # noqa: SLF001 - documented, for this very purpose
                _tell(frame, time.monotonic() - beat)


def _tell(frame: FrameType, seconds: float) -> None:
    """One line: who, and where it stands now. Lines of code only, no values."""
    stack = [f"{one.filename}:{one.lineno} {one.name}" for one in traceback.extract_stack(frame, LINES)]
    work = _running(frame)
    if work is None:
        log.error("the event loop is blocked, and not by a handler", seconds=round(seconds, 1), stack=stack)
    else:
        route = work.route
        log.error(
            "a handler blocks the event loop: everything else waits; await, or use asyncio.to_thread",
            handler=route.handler,
            route=route.name,
            seconds=round(seconds, 1),
            stack=stack,
        )


def _running(frame: FrameType | None) -> Work | None:
    """The work whose attempt this stack runs, if it does run one."""
    while frame is not None:
        if frame.f_code is Attempts.run.__code__:
            work = frame.f_locals.get("work")
            return work if isinstance(work, Work) else None
        frame = frame.f_back
    return None
