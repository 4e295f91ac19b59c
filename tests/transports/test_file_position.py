"""The saved position of the `file` transport: what it promises, and the starts that it refuses."""

import asyncio
import json
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from investbus import config_bus
from investbus.errors import TransportDown, TransportRefused, UnsafeStart
from investbus.transport import Delivery, Message
from investbus.transports.file import File
from investbus.transports.file_position import Position


def a_bus(log: Path, *, drain_cap: float = 0.05, max_gap: int = 1000) -> File:
    return File(config_bus.File(path=log), drain_cap=drain_cap, max_gap=max_gap)


@asynccontextmanager
async def opened(log: Path, *, drain_cap: float = 0.05, max_gap: int = 1000) -> AsyncIterator[File]:
    bus = a_bus(log, drain_cap=drain_cap, max_gap=max_gap)
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close(2.0)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events.ndjson"


async def take(bus: File, number: int) -> list[Delivery]:
    taken: list[Delivery] = []
    async with asyncio.timeout(10):
        while len(taken) < number:
            taken += await bus.receive(number - len(taken))
    return taken


async def eventually(condition: Callable[[], bool], within: float) -> bool:
    for _ in range(int(within / 0.01)):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False


def write(log: Path, content: bytes) -> None:
    with log.open("ab") as file:
        file.write(content)


def saved(log: Path) -> int:
    position = log.with_name(f"{log.name}.position")
    return int(json.loads(position.read_bytes())["position"]) if position.exists() else 0


def beside(log: Path) -> Path:
    return log.with_name(f"{log.name}.position")


def numbered(first: int, last: int) -> list[Message]:
    return [Message(b'{"id": "%d"}' % number) for number in range(first, last)]


async def test_the_position_is_saved_at_once_when_nothing_is_outstanding(log: Path) -> None:
    async with opened(log) as bus:
        await bus.publish([Message(b"1"), Message(b"2")])
        for delivery in await take(bus, 2):
            delivery.ack()
        assert await eventually(lambda: saved(log) == 4, within=0.5)
        await asyncio.sleep(0.05)
        assert (bus.counts.ok, bus.state().partitions["0"].gap) == (2, 0)


async def test_the_position_is_saved_once_a_second_while_something_is_outstanding(log: Path) -> None:
    async with opened(log) as bus:
        await bus.publish([Message(b"1"), Message(b"2")])
        first, _ = await take(bus, 2)
        first.ack()
        await asyncio.sleep(0.5)
        assert saved(log) == 0
        assert bus.counts.ok == 0
        assert await eventually(lambda: saved(log) == 2, within=2)


async def test_no_save_passes_an_unfinished_event(log: Path) -> None:
    chance = random.Random(7)
    a_bus_for_all, open_ends, done = a_bus(log), list(range(2, 602, 2)), set[int]()
    await a_bus_for_all.publish([Message(b"x")] * 300)
    while open_ends:
        async with opened(log) as bus:
            deliveries = await take(bus, len(open_ends))
            assert [one.position for one in deliveries] == open_ends
            for delivery in chance.sample(deliveries, len(deliveries)):
                if chance.random() < 0.99:
                    delivery.ack()
                    done.add(delivery.position)
        position = saved(log)
        assert set(range(2, position + 2, 2)) <= done
        assert position + 2 not in done
        open_ends = list(range(position + 2, 602, 2))
        done = set(range(2, position + 2, 2))


async def test_a_disk_that_refuses_the_position_is_counted_and_tried_again(log: Path) -> None:
    async with opened(log) as bus:
        beside(log).mkdir()
        await bus.publish([Message(b"1")])
        (one,) = await take(bus, 1)
        one.ack()
        await asyncio.sleep(0.2)
        assert (bus.counts.ok, bus.counts.error) == (0, 1)
        assert bus.state().partitions["0"].gap == 1
        beside(log).rmdir()
        assert await eventually(lambda: saved(log) == 2, within=3)
        await asyncio.sleep(0.05)
        assert bus.counts.ok == 1


async def test_a_bug_in_saving_does_not_stay_unseen(log: Path) -> None:
    async with opened(log) as bus:
        bus._position.save = lambda position: 1 / 0  # type: ignore[method-assign,assignment]  # the bug
        await bus.publish(numbered(0, 1))
        (await take(bus, 1))[0].ack()
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(bus.receive(1), 1)
        del bus._position.save


async def test_close_does_not_wait_for_a_disk_that_hangs_nor_give_up_the_lock_before_it(log: Path) -> None:
    bus, other, hang, save = a_bus(log), a_bus(log), threading.Event(), Position.save
    await bus.open()

    def hanging(position: int) -> None:
        hang.wait(10)
        save(bus._position, position)

    bus._position.save = hanging  # type: ignore[method-assign]  # a disk cannot be made to hang from here
    await bus.publish([Message(b"1")])
    (await take(bus, 1))[0].ack()
    began = time.monotonic()
    await bus.close(0.3)
    assert time.monotonic() - began < 1
    assert (bus.counts.ok, bus.counts.lost) == (0, 1)
    with pytest.raises(Exception, match="another worker"):
        await other.open()
    hang.set()
    assert await eventually(lambda: saved(log) == 2, within=5)
    await asyncio.sleep(0.05)
    await other.open()
    assert other.state().partitions["0"].lag == 0
    await other.close(1.0)


# ---- starts that are refused

WHOLE = b'{"id": "1"}\n{"id": "2"}\n'
DAMAGED = [b"", b"12", b"{}", b"not JSON", b"\xff", b'{"position": true}', b'{"position": -1}', b'{"position": "12"}']
DAMAGED += [
    b'{"position": 1.5}',
    b'{"position": null}',
    b'{"position": 12, "more": 1}',
    b'[{"position": 12}]',
    b"\0" * 16,
]


async def refusal(log: Path) -> str:
    """The one line that says why `log` is not opened; the same one that `check` finds, and the lock is free again."""
    bus = a_bus(log)
    with pytest.raises(UnsafeStart) as refused:
        await bus.open()
    assert await bus.check() == [str(refused.value)]
    bus._position.lock().close()
    assert "\n" not in str(refused.value)
    assert str(beside(log)) in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("content", DAMAGED)
async def test_a_damaged_position_refuses_the_start(log: Path, content: bytes) -> None:
    write(log, WHOLE)
    write(beside(log), content)
    assert f"{beside(log)} is damaged" in await refusal(log)
    beside(log).unlink()
    async with opened(log) as bus:
        assert len(await take(bus, 2)) == 2


@pytest.mark.parametrize("position", [len(WHOLE) + 1, 2**70])
async def test_a_log_shorter_than_the_position_refuses_the_start(log: Path, position: int) -> None:
    write(log, WHOLE)
    write(beside(log), b'{"position": %d}' % position)
    assert f"the log has 24 bytes, but {position} were read; restore it whole, or delete" in await refusal(log)


async def test_a_missing_log_with_a_position_refuses_the_start(log: Path) -> None:
    write(beside(log), b'{"position": 12}')
    assert "the log is gone, but 12 bytes were read" in await refusal(log)


@pytest.mark.parametrize("position", [1, 11, 13, 23])
async def test_a_position_inside_a_line_refuses_the_start(log: Path, position: int) -> None:
    write(log, WHOLE)
    write(beside(log), b'{"position": %d}' % position)
    assert f"no line ends at byte {position}" in await refusal(log)


@pytest.mark.parametrize(("position", "events"), [(0, 2), (12, 1), (24, 0)])
async def test_a_position_at_the_end_of_a_line_is_gone_on_from(log: Path, position: int, events: int) -> None:
    write(log, WHOLE)
    write(beside(log), b'{"position": %d}' % position)
    async with opened(log) as bus:
        assert bus.state().partitions["0"].lag == events
        await bus.publish([Message(b"new")])
        assert [one.body for one in await take(bus, events + 1)][-1] == b"new"


def cut(log: Path) -> None:
    log.write_bytes(WHOLE[:12])


def replaced(log: Path) -> None:
    write(log.with_name("other"), WHOLE[:12])
    log.with_name("other").replace(log)


def rewritten(log: Path) -> None:
    log.write_bytes(b"x" * 100 + b"\n")


@pytest.mark.parametrize("change", [cut, replaced, rewritten, Path.unlink])
async def test_a_log_that_is_changed_while_it_is_read_is_refused(log: Path, change: Callable[[Path], None]) -> None:
    write(log, WHOLE)
    async with opened(log) as bus:
        await take(bus, 2)
        waiting = asyncio.create_task(bus.receive(1))
        await asyncio.sleep(0.05)
        change(log)
        with pytest.raises(UnsafeStart, match="24"):
            await asyncio.wait_for(waiting, 2)


async def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    bus = a_bus(tmp_path / "none" / "log")
    told = f"file:{tmp_path}/none/log: folder {tmp_path}/none does not exist; create it"
    with pytest.raises(TransportRefused) as refused:
        await bus.open()
    assert str(refused.value) == told
    with pytest.raises(TransportRefused) as refused:
        await bus.publish(numbered(0, 1))
    assert str(refused.value) == told
    assert await bus.check() == [told]


async def test_a_log_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    bus = a_bus(tmp_path)
    with pytest.raises(TransportRefused, match=f"file:{tmp_path}: Is a directory"):
        await bus.open()
    assert len(await bus.check()) == 1
    assert not (tmp_path / "log").exists()


async def test_a_folder_that_cannot_be_written_is_a_finding() -> None:
    (finding,) = await a_bus(Path("/proc/events.ndjson")).check()
    assert finding.startswith("file:/proc/events.ndjson: ")
    with pytest.raises(TransportDown):
        await a_bus(Path("/proc/events.ndjson")).open()


async def test_check_is_content_with_a_log_that_is_not_there_yet_and_leaves_nothing_behind(log: Path) -> None:
    assert await a_bus(log).check() == []
    assert list(log.parent.iterdir()) == []
