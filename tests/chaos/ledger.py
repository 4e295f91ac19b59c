"""What handlers did, one line per step, written with O_APPEND so that a killed process leaves whole lines behind."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One step of one run. `at` is CLOCK_MONOTONIC, which all processes of a machine share."""

    at: float
    pid: int
    what: Literal["begin", "end"]
    event_id: str
    key: str
    seq: int


class Run(NamedTuple):
    """One run of a handler; `end` is None if the process died in it."""

    pid: int
    event_id: str
    key: str
    seq: int
    begin: float
    end: float | None


class Ledger:
    """The writing side, one per process."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / f"ledger-{os.getpid()}.ndjson", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, what: Literal["begin", "end"], event_id: str, key: str, seq: int) -> None:
        os.write(self._file, msgspec.json.encode(Step(time.monotonic(), os.getpid(), what, event_id, key, seq)) + b"\n")


def read_runs(folder: Path, pid: int | None = None) -> list[Run]:
    """Every run that was written down, by process in the order in which they began."""
    pattern = "ledger-*.ndjson" if pid is None else f"ledger-{pid}.ndjson"
    return [run for path in sorted(folder.glob(pattern)) for run in _runs(_steps(path))]


def _steps(path: Path) -> Iterable[Step]:
    # What follows the last line end is being written, or its writer was killed between two pages of the file.
    for line in path.read_bytes().rpartition(b"\n")[0].split(b"\n"):
        if line:
            yield msgspec.json.decode(line, type=Step)


def _runs(steps: Iterable[Step]) -> list[Run]:
    runs: list[Run] = []
    under_way: dict[str, int] = {}
    for step in steps:
        if step.what == "begin":
            under_way[step.event_id] = len(runs)
            runs.append(Run(step.pid, step.event_id, step.key, step.seq, step.at, None))
        else:
            at = under_way.pop(step.event_id)
            runs[at] = runs[at]._replace(end=step.at)
    return runs
