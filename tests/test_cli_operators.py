"""`dlq replay`, `dlq discard`, `replays`, `pause` and `resume`, as an operator types them, with a worker that runs as a job."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from investbus.cli import main
from tests.test_process import INVESTBUS, Process
from tests.whole import envelope, publish

HANDLERS = '''
import os
from investbus import Reject, Router
router = Router()

@router.on("portfolios.status-update")
async def status(event, ctx):
    if not os.path.exists("mended"):
        raise Reject("broken")

@router.on("portfolios.creation")
async def creation(event, ctx):
    raise ValueError("no account")
'''

Ask = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    process = Process(tmp_path)
    (tmp_path / "hand.py").write_text(HANDLERS)
    monkeypatch.chdir(tmp_path)
    bodies = [envelope(event_id=f"s{number}", data={"id": f"P{number}"}) for number in range(5)]
    bodies += [envelope("portfolios.creation", f"c{number}", data={"id": f"P{number}"}) for number in range(2)]
    asyncio.run(publish(process.settings, *bodies))
    work(process)
    return process


def work(process: Process) -> None:
    """Let a worker run until it has nothing to do."""
    process.start("--until-idle", "1.5")
    assert process.ended()[0] == 0


@pytest.fixture
def ask(process: Process, capsys: pytest.CaptureFixture[str]) -> Ask:
    def ask(*argv: str) -> tuple[int, Any, str]:
        code = main([*argv, "--format", "json"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return ask


def test_what_was_mended_is_replayed_and_the_rest_stays(process: Process, ask: Ask) -> None:
    code, plan, _ = ask("dlq", "replay", "--plan")
    assert (code, plan["planned"], plan["eligible"], plan["not_eligible"]) == (0, 7, 7, [])
    assert [(row["route"], row["count"]) for row in plan["routes"]] == [("portfolios.status-update", 5), ("portfolios.creation", 2)]
    Path("mended").touch()
    chosen = ("--route", "portfolios.status-update", "--yes", "--note", "core is back")
    code, asked, said = ask("dlq", "replay", *chosen)
    assert (code, asked["state"], asked["planned"], asked["note"]) == (0, "pending", 5, "core is back")
    assert f"investbus replays show {asked['id']}" in said
    work(process)
    code, shown, _ = ask("replays", "show", asked["id"])
    assert code == 0
    assert (shown["state"], shown["done"], shown["dead"], shown["skipped"]) == ("done", 5, 0, 0)
    assert ask("replays", "list")[1][0]["id"] == asked["id"]
    code, groups, _ = ask("dlq", "list", "--group", "--state", "open")
    assert [(group["route"], group["count"]) for group in groups] == [("portfolios.creation", 2)]
    assert len(ask("dlq", "list", "--state", "replayed")[1]) == 5
    code, plan, _ = ask("dlq", "replay", "--plan", "--state", "replayed")
    assert [(row["reason"], row["count"]) for row in plan["not_eligible"]] == [("already replayed", 5)]
    assert ask("dlq", "replay", "--route", "portfolios.status-update", "--yes")[0] == 1, "none of them is open"


def test_a_replay_that_stops_exits_4_and_says_why(process: Process, ask: Ask) -> None:
    process.start()
    code, ended, said = ask("dlq", "replay", "--route", "portfolios.status-update", "--yes", "--wait", "30")
    process.signal(15)
    assert process.ended()[0] == 0
    assert (code, ended["state"], ended["dead"], ended["done"]) == (4, "stopped", 1, 0)
    assert "the first letter died again" in said


def test_a_replay_that_nobody_takes_exits_4_when_the_wait_is_over_and_can_be_cancelled(ask: Ask) -> None:
    code, asked, said = ask("dlq", "replay", "--reason", "rejected", "--yes", "--wait", "0.2")
    assert (code, asked["state"]) == (4, "pending")
    assert "has not begun within 0.2 s: no worker on this store has taken it" in said
    assert ask("replays", "cancel", asked["id"])[0] == 0
    assert ask("replays", "show", asked["id"])[1]["state"] == "cancelled"
    assert ask("replays", "cancel", asked["id"])[0] == 1
    assert ask("replays", "show", "nosuch")[0] == 1
    assert ask("pause", "--note", "moving the core")[0] == 0
    code, _, said = ask("dlq", "replay", "--reason", "rejected", "--yes", "--wait", "0.2")
    assert code == 4
    assert "has not begun within 0.2 s: everything is paused (operator: moving the core)" in said


def test_a_narrow_terminal_gets_fewer_columns_and_whole_ids(
    process: Process, ask: Ask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [row["id"] for row in ask("dlq", "list")[1]]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["dlq", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(letter in shown for letter in ids)
    assert "origin" not in shown
    assert len(shown.splitlines()) == 1 + len(ids), "a row is a line"
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["dlq", "list"]) == 0
    assert "origin" in capsys.readouterr().out


def test_discarded_letters_stay_and_are_left_out(ask: Ask) -> None:
    (letter, other) = ask("dlq", "list", "--route", "portfolios.creation")[1]
    code, discarded, _ = ask("dlq", "discard", letter["id"], "--note", "booked by hand", "--yes")
    assert (code, discarded) == (0, {"discarded": 1, "note": "booked by hand"})
    assert ask("dlq", "show", letter["id"])[1]["state"] == "discarded"
    assert ask("dlq", "discard", letter["id"], "--note", "again", "--yes")[0] == 1
    assert ask("dlq", "replay", "--plan", "--route", "portfolios.creation")[1]["planned"] == 1
    assert ask("dlq", "show", other["id"])[1]["state"] == "open"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("dlq", "replay", "--yes"), "name dead letters by their id, or choose them by a filter"),
        (("dlq", "replay", "--reason", "rejected"), "--yes: missing; without a terminal there is nobody to ask"),
        (("dlq", "replay", "--rate", "0"), "--rate"),
        (("dlq", "replay", "--rate", "nan", "--yes", "--state", "open"), "--rate"),
        (("dlq", "discard", "--reason", "rejected", "--yes"), "--note: missing"),
        (("dlq", "discard", "--note", "x", "--yes"), "name dead letters by their id, or choose them by a filter"),
        (("pause",), "--note: missing"),
        (("resume", "--note", " "), "--note: missing"),
        (("pause", "--route", "portfolio.creatoin", "--note", "x"), "did you mean portfolios.creation?"),
        (("resume", "--route", "portfolio.creatoin", "--note", "x"), "did you mean portfolios.creation?"),
    ],
)
def test_a_request_that_is_not_complete_is_one_line_and_exit_2(ask: Ask, argv: tuple[str, ...], said: str) -> None:
    code, out, err = ask(*argv)
    assert (code, out) == (2, None)
    assert said in err
    assert err.count("\n") == 1


def test_a_pause_holds_over_restarts_until_resume(process: Process, ask: Ask) -> None:
    code, paused, said = ask("pause", "--note", "moving the core")
    assert (code, paused) == (0, {"paused": "everything", "note": "moving the core"})
    assert "investbus resume --note" in said
    assert ask("pause", "--route", "portfolio.status-update", "--note", "one more")[1]["paused"] == "portfolios.status-update"
    process.start("--max-events", "1")
    with pytest.raises(subprocess.TimeoutExpired):
        process.ended(limit=4.0)
    process.signal(15)
    assert process.ended()[0] == 0
    code, lifted, said = ask("resume", "--note", "done")
    assert (code, [row["resumed"] for row in lifted]) == (0, ["everything"])
    assert "still paused: portfolios.status-update (operator: one more)" in said
    assert ask("resume", "--route", "portfolios.status-update", "--note", "done")[0] == 0
    assert ask("resume", "--note", "done")[:2] == (1, [])


def test_the_pause_of_a_route_that_has_gone_can_be_ended(process: Process, ask: Ask) -> None:
    assert ask("pause", "--route", "portfolios.creation", "--note", "the core is down")[0] == 0
    (process.folder / "gone.py").write_text(HANDLERS.partition('@router.on("portfolios.creation")')[0])
    gone = ("--set", 'handlers=["gone:router"]')
    assert ask("pause", "--route", "portfolios.creation", "--note", "x", *gone)[0] == 2
    code, lifted, _ = ask("resume", "--route", "portfolios.creation", "--note", "it has gone", *gone)
    assert (code, [row["resumed"] for row in lifted]) == (0, ["portfolios.creation"])


def test_an_id_that_no_letter_has_is_told(ask: Ask) -> None:
    (letter, _) = ask("dlq", "list", "--route", "portfolios.creation")[1]
    code, asked, said = ask("dlq", "replay", letter["id"], "nosuch", "--yes")
    assert (code, asked["planned"]) == (0, 1)
    assert "no dead letter matches nosuch" in said


def test_why_letters_of_a_replay_are_not_done_is_shown(process: Process, ask: Ask) -> None:
    Path("mended").touch()
    (letter, *_) = ask("dlq", "list", "--route", "portfolios.status-update")[1]
    asked = ask("dlq", "replay", "--event-id", letter["event_id"], "--yes")[1]
    work(process)
    assert ask("replays", "show", asked["id"])[1]["reasons"] == []
    asked = ask("dlq", "replay", "--reason", "rejected", "--state", "replayed", "--yes")[1]
    work(process)
    expected = [{"outcome": "skipped", "reason": "already replayed", "count": 1, "sample": letter["id"]}]
    assert ask("replays", "show", asked["id"])[1]["reasons"] == expected
    asked = ask("dlq", "replay", "--route", "portfolios.creation", "--yes")[1]
    work(process)
    (why,) = ask("replays", "show", asked["id"])[1]["reasons"]
    assert (why["outcome"], why["reason"], why["count"]) == ("dead", "ValueError", 1)


def test_no_answer_repeats_what_an_event_holds(process: Process, ask: Ask) -> None:
    listed = subprocess.run(
        [INVESTBUS, "dlq", "replay", "--plan"], cwd=process.folder, capture_output=True, text=True, timeout=30, check=True
    )
    assert "P1" not in listed.stdout + listed.stderr
    assert "eligible" in listed.stdout
