"""The pieces of the demo: whose folder it takes, what it expects of its messages, and how it finds out that one is missing."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from investbus import Context, Event, Router
from investbus.catalogue import PortfolioStatusUpdate
from investbus.config_bus import File
from investbus.demo.feed import Feed
from investbus.demo.folder import MARK, claim
from investbus.demo.plan import OF_MISCHIEF, Plan
from investbus.demo.summary import Summary, summed_up
from investbus.errors import ConfigError
from investbus.sandbox import World, events
from investbus.sandbox.mischief import KINDS
from investbus.transport import Message
from investbus.transports.file import File as FileLog
from tests.whole import at_rest, envelope, publish, running, settings_in, until

router = Router()


@router.on("portfolios.status-update")
async def handler(event: Event[PortfolioStatusUpdate], ctx: Context) -> None:
    """Does nothing."""


@pytest.mark.parametrize("name", ["notes.txt", "investbus.yaml", "state.db"])
def test_a_folder_that_is_not_a_demos_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("handlers: []\n")
    with pytest.raises(ConfigError, match=f"holds {name}, which is no demo's"):
        claim(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "handlers: []\n"}


def test_a_stranger_in_a_demos_folder_keeps_all_of_it(tmp_path: Path) -> None:
    claim(tmp_path)
    for name in ("events.ndjson", "report.csv"):
        (tmp_path / name).write_text("mine\n")
    with pytest.raises(ConfigError, match=r"holds report\.csv"):
        claim(tmp_path)
    assert (tmp_path / "events.ndjson").read_text() == "mine\n"


def test_a_demo_that_was_killed_early_leaves_a_folder_that_the_next_one_takes(tmp_path: Path) -> None:
    claim(tmp_path / "new" / "demo")
    (tmp_path / "new/demo/events.ndjson").write_text("old\n")
    folder = claim(tmp_path / "new" / "demo")
    assert folder.config.read_text() == f"{MARK}\n"
    assert not (folder.path / "events.ndjson").exists()


def test_no_variable_of_the_environment_leads_the_demo_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVESTBUS_FILE__PATH", "/production/events.ndjson")
    settings = claim(tmp_path).furnish("http://127.0.0.1:20001")
    assert settings.file is not None
    assert settings.file.path == tmp_path / "events.ndjson"


def test_the_plan_knows_every_kind_of_mischief() -> None:
    assert OF_MISCHIEF.keys() == set(KINDS)
    world = World(3, 20)
    stream = events(world, Random(3), 500, mischief=0.2)
    plan = Plan(world, stream)
    assert sum(1 for _ in plan) == sum(plan.endings.values()) == 500
    assert sum(plan.endings.get(name, 0) for name in ("done", "rejected", "exhausted")) == stream.made.names.total()
    assert plan.endings["undecodable"] == sum(stream.made.mischief[kind] for kind in ("broken-json", "wrong-version", "missing-id"))


async def test_a_summary_that_does_not_agree_has_findings(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    bodies = [envelope(), envelope(event_id="e2"), envelope(), b"broken", envelope("users.creation", event_id="e3")]
    await publish(settings, *bodies, envelope(event_id="e4", data={"id": 17}))
    planned = {"done": 2, "duplicate": 1, "undecodable": 1, "ignored": 1, "data_invalid": 1}
    async with running(settings, router) as parts:
        await until(at_rest(parts, 6))
        await until(lambda: parts.worker.transport.counts.ok == 6)

        async def summed(planned: dict[str, int], events: int) -> Summary:
            return await summed_up(parts, planned, events, 2.0)

        right = await summed(planned, 6)
        assert (right.findings, right.counted, right.events_per_second) == ([], dict(sorted(planned.items())), 3.0)
        assert (await summed({**planned, "done": 3, "duplicate": 0}, 6)).findings == [
            "done: 3 were due, 2 were counted",
            "duplicate: 0 were due, 1 were counted",
        ]
        missing = await summed({**planned, "done": 3}, 7)
        assert "7 messages were due to end, 6 have ended" in missing.findings
        assert "messages settled with the bus: 7 were due, 6 were counted" in missing.findings


async def test_what_the_bus_has_not_taken_is_not_counted_and_not_lost(tmp_path: Path) -> None:
    path, said = tmp_path / "later" / "events.ndjson", list[str]()
    messages = [Message(b'{"n": %d}' % number) for number in range(30)]
    feed = Feed(messages, FileLog(File(path=path), drain_cap=1.0, max_gap=10), said.append)
    running_feed = asyncio.create_task(feed.run(1000.0, 30))
    await until(lambda: bool(said))
    assert feed.sent == 0
    path.parent.mkdir()
    await asyncio.wait_for(running_feed, 20)
    assert path.read_bytes().splitlines() == [message.body for message in messages]
    assert feed.sent == 30
    assert (len(said), said[-1]) == (2, "the bus is back")
