"""The demo while it runs, on stderr: a bar with what happens above it on a terminal, a line a second into a pipe."""

import sys
import time
from types import TracebackType
from typing import Protocol, Self

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

LINE_EVERY = 1.0


class Look(msgspec.Struct, frozen=True):
    """How far the events are."""

    ended: int
    done: int
    dead: int
    skipped: int
    waiting: int

    def __str__(self) -> str:
        return f"{self.done} done, {self.dead} dead, {self.skipped} skipped, {self.waiting} unfinished"


class Shown(Protocol):
    def say(self, what: str) -> None: ...

    def show(self, look: Look) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Bar:
    """For a terminal. It is gone when the demo is over; what was said stays."""

    def __init__(self, total: int) -> None:
        columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("[dim]{task.description}"))
        self._progress = Progress(*columns, console=Console(stderr=True, highlight=False), auto_refresh=False, transient=True)
        self._task = self._progress.add_task("", total=total)
        self._started = time.monotonic()

    def say(self, what: str) -> None:
        self._progress.console.print(f"[dim]{time.monotonic() - self._started:4.1f} s[/]  {what}", soft_wrap=True)

    def show(self, look: Look) -> None:
        self._progress.update(self._task, completed=look.ended, description=str(look), refresh=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()


class Lines:
    """For a pipe or a file."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._started = self._shown = time.monotonic()

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self._started:4.1f} s  {what}", file=sys.stderr, flush=True)

    def show(self, look: Look) -> None:
        if time.monotonic() - self._shown >= LINE_EVERY:
            self._shown = time.monotonic()
            self.say(f"{look.ended} of {self._total} ended: {look}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing is held."""


def progress(total: int) -> Shown:
    return Bar(total) if sys.stderr.isatty() else Lines(total)
