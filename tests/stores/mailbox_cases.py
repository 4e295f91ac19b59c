"""What every store must do for operators, but for replays: pauses, letters that are closed or wait, crashes, audits."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from investbus.mailbox import EVERYTHING, Audit, Pause, Replay
from investbus.store import STATES, DeadLetter, Done, Filter, Store, body_hash, identity_of
from tests.stores.letters import NOON, letter
from tests.stores.opened import Opened

ROUTE = letter().route
SECOND = timedelta(seconds=1)


def done_event(one: DeadLetter, supersedes: str = "", **changes: Any) -> Done:
    """That the event of this letter was done, or one like it."""
    identity = identity_of(one.source, one.name, one.created, one.event_id)
    return Done(msgspec.structs.replace(identity, **changes), body_hash(one.body), "done", supersedes)


async def states(store: Store, *letters: DeadLetter) -> list[str]:
    found = [await store.get_dead(one.id) for one in letters]
    return ["missing" if one is None else one.state for one in found]


class MailboxCases(Opened):
    # ---- pauses

    async def test_a_pause_stands_until_it_is_resumed(self, store: Store) -> None:
        pause = Pause(ROUTE, "operator", "the core is down", "ann", NOON)
        await store.pause(pause)
        assert await store.pauses() == [pause]
        assert await store.resume("another", "bob", "", NOON) == []
        assert await store.resume(EVERYTHING, "bob", "", NOON) == []
        assert await store.resume(ROUTE, "bob", "up again", NOON) == [pause]
        assert await store.pauses() == []

    async def test_the_same_pause_again_only_changes_who_when_and_why(self, store: Store) -> None:
        await store.pause(Pause(EVERYTHING, "operator", "first", "ann", NOON))
        flood = Pause(EVERYTHING, "flood", "50 in a row", "worker", NOON + SECOND)
        await store.pause(flood)
        again = Pause(EVERYTHING, "operator", "second", "bob", NOON + 2 * SECOND)
        await store.pause(again)
        assert await store.pauses() == [flood, again]
        assert await store.resume(EVERYTHING, "ann", "", NOON) == [flood, again]

    # ---- letters that are closed, and open again

    @pytest.mark.parametrize("state", ["replayed", "discarded", "superseded"])
    async def test_a_closed_letter_that_dies_again_is_open_with_what_happened_now(self, store: Store, state: str) -> None:
        await store.put_dead([letter(1, state=state)], [])
        again = letter(1, message="now", attempts=9, first_at=NOON + 8 * SECOND, last_at=NOON + 9 * SECOND)
        await store.put_dead([again], [])
        assert await store.get_dead(again.id) == again

    async def test_a_letter_keeps_its_entity(self, store: Store) -> None:
        await store.put_dead([letter(1, entity="P1")], [])
        assert await store.get_dead(letter(1).id) == letter(1, entity="P1")

    async def test_only_what_is_open_or_parked_is_discarded(self, store: Store) -> None:
        letters = [letter(number, state=state) for number, state in enumerate(STATES)]
        await store.put_dead([*letters, letter(8)], [])
        asked = [*(one.id for one in letters), "nothing"]
        assert await store.discard(asked, "state=open", "ann", "test data", NOON) == 2
        assert await states(store, *letters) == ["discarded", "replayed", "discarded", "discarded", "superseded"]
        assert await states(store, letter(8)) == ["open"]
        assert await store.audits(9) == [Audit(NOON, "ann", "discard", "test data", "state=open", 2)]

    # ---- a later success

    async def test_a_done_event_supersedes_the_open_letters_of_its_entity(self, store: Store) -> None:
        letters = [letter(number, state=state, entity="P1") for number, state in enumerate(STATES)]
        others = [letter(10, entity="P2"), letter(11), letter(12, route="other", name="other", entity="P1")]
        await store.put_dead(letters + others, [])
        later = done_event(letter(20), "P1")
        await store.put_done([done_event(letter(21)), later])
        assert await states(store, *letters) == ["superseded", "replayed", "discarded", "parked", "superseded"]
        assert await states(store, *others) == ["open", "open", "open"]
        assert await store.find_done([later.identity]) == {later.identity: later.body_hash}

    @pytest.mark.parametrize(
        ("died", "succeeded", "state"),
        [
            ("2025-03-01T12:00:00Z", "2025-03-01T12:00:01Z", "superseded"),
            ("2025-03-01T12:00:01Z", "2025-03-01T12:00:01Z", "superseded"),
            ("2025-03-01T12:00:01.000001Z", "2025-03-01T12:00:01Z", "open"),
            ("2025-03-01T12:00:01Z", "2025-03-01T13:00:00+02:00", "open"),
            ("2025-03-01T12:00:01Z", "2025-03-01T12:00:00", "open"),
            ("-1000000000-01-01T00:00:00Z", "2025-03-01T12:00:00Z", "superseded"),
            ("2025-03-01T12:00:00Z", "", "superseded"),
        ],
    )
    async def test_a_letter_whose_event_is_known_to_be_later_is_not_superseded(
        self, store: Store, died: str, succeeded: str, state: str
    ) -> None:
        await store.put_dead([letter(1, entity="P1", created=died)], [])
        await store.put_done([done_event(letter(2), "P1", created=succeeded)])
        assert await states(store, letter(1)) == [state]

    async def test_a_wildcard_s_letters_are_superseded_by_events_of_their_name(self, store: Store) -> None:
        letters = [letter(1, route="portfolios.*", entity="P1"), letter(2, route="portfolios.*", name="portfolios.x", entity="P1")]
        await store.put_dead(letters, [])
        await store.put_done([done_event(letter(3, name="portfolios.divest-amount-update"), "P1")])
        assert await states(store, *letters) == ["superseded", "open"]

    async def test_a_route_s_letters_are_superseded_under_any_of_its_names(self, store: Store) -> None:
        await store.put_dead([letter(1, route="a.b", name="a.old", entity="P1")], [])
        await store.put_done([done_event(letter(2, name="a.b"), "P1")])
        assert await states(store, letter(1)) == ["superseded"]

    async def test_records_that_come_with_letters_supersede_too(self, store: Store) -> None:
        await store.put_dead([letter(1, entity="P1")], [])
        await store.put_dead([letter(2, entity="P1", state="parked")], [done_event(letter(3), "P1")])
        assert await states(store, letter(1), letter(2)) == ["superseded", "parked"]

    # ---- which letters

    async def test_letters_are_selected_as_they_were_stored_whatever_their_clocks_say(self, store: Store) -> None:
        order = (5, 7, 6, 4, 1, 3, 0, 2)
        letters = [letter(number, first_at=NOON - SECOND * (number // 4), last_at=NOON) for number in order]
        await store.put_dead(letters[:3], [])
        await store.put_dead(letters[3:], [])
        await store.put_dead(letters[4:], [])
        expected = [letter(number).id for number in order]
        assert await store.select_dead(Filter()) == expected
        some = [letter(number).id for number in (4, 2, 5, 9)]
        assert await store.select_dead(Filter(), some) == [one for one in expected if one in some]
        assert await store.select_dead(Filter(), []) == []

    async def test_a_selection_narrows_as_a_list_does(self, store: Store) -> None:
        await store.put_dead([letter(1, state="parked"), letter(2, route="other"), letter(3, key="P"), letter(4, key="P")], [])
        assert await store.select_dead(Filter(state="parked")) == [letter(1).id]
        assert await store.select_dead(Filter(key="P"), [letter(1).id, letter(4).id]) == [letter(4).id]
        assert await store.select_dead(Filter(route="other", since=NOON + 3 * SECOND)) == []

    async def test_more_letters_than_a_statement_has_variables_are_selected(self, store: Store) -> None:
        await store.put_dead([letter(1)], [])
        assert await store.select_dead(Filter(), [letter(number).id for number in range(50_000)]) == [letter(1).id]

    async def test_a_letter_is_known_to_be_done_by_its_very_event(self, store: Store) -> None:
        long = letter(5, created="2025" * 50, name="portfolios.x", route="portfolios.*")
        letters = [letter(1), letter(2), letter(3), letter(4), long]
        others = [done_event(letter(2, body=b"other")), done_event(letter(3, source="file"))]
        await store.put_done([done_event(letter(1)), *others, done_event(long)])
        await store.put_dead([], [msgspec.structs.replace(done_event(letter(4)), outcome="dead")])
        assert await store.done_among(letters) == {letter(1).id, long.id}

    # ---- keys that wait

    async def test_a_key_waits_behind_its_first_open_or_parked_letter_whatever_their_clocks_say(self, store: Store) -> None:
        await store.put_dead(
            [
                letter(0, key="P", state="replayed"),
                letter(1, key="P", route="other"),
                letter(2, key="P"),
                letter(3, key="P", state="parked", first_at=NOON - 9 * SECOND),
                letter(4, key="Q", state="discarded"),
            ],
            [],
        )
        assert await store.blocking("P", [ROUTE]) == letter(2).id
        assert await store.blocking("P", [ROUTE, "other"]) == letter(1).id
        assert await store.blocking("Q", [ROUTE]) is None
        assert await store.discard([letter(2).id], "", "ann", "", NOON) == 1
        assert await store.blocking("P", [ROUTE]) == letter(3).id
        assert await store.blocking("P", []) is None

    async def test_what_is_parked_goes_on_when_nothing_open_stands_before_it(self, store: Store) -> None:
        letters = [
            letter(0, key="P"),
            letter(1, key="P", state="parked"),
            letter(2, key="Q", state="parked"),
            letter(3, key="Q", state="parked", first_at=NOON - 9 * SECOND),
            letter(4, key="Q", route="other"),
        ]
        await store.put_dead([*letters[:2], letters[3], letters[2], *letters[4:]], [])
        free = [letter(3).id, letter(2).id]
        assert await store.unblocked([ROUTE], 9) == free
        assert await store.unblocked([ROUTE], 1) == free[:1]
        assert await store.unblocked([ROUTE, "other"], 9) == free, "a letter that died after they were parked holds nobody up"
        await store.discard([letter(0).id], "", "ann", "", NOON)
        assert await store.unblocked([ROUTE], 9) == [letter(1).id, *free]

    async def test_a_letter_that_died_by_itself_holds_up_what_was_parked_behind_it_and_not_what_was_before(
        self, store: Store
    ) -> None:
        letters = [letter(number, key="P", state="open" if number == 2 else "parked") for number in range(5)]
        await store.put_dead(letters, [])
        assert await store.unblocked([ROUTE], 9) == [letter(0).id, letter(1).id]
        await store.discard([letter(0).id, letter(1).id], "", "ann", "", NOON)
        assert await store.unblocked([ROUTE], 9) == []

    async def test_what_was_parked_on_a_route_that_parks_no_more_goes_on_at_once(self, store: Store) -> None:
        letters = [letter(1, key="P", route="a.b"), *(letter(number, key="P", route="a.b", state="parked") for number in (2, 3))]
        await store.put_dead(letters, [])
        assert await store.unblocked(["a.b"], 9) == []
        assert await store.unblocked([], 9) == [letter(2).id, letter(3).id]
        assert await store.unblocked([ROUTE], 1) == [letter(2).id]
        await store.ask_replay(Replay("r", "", "ann", NOON, "", 5.0, 3, again=False), [letter(2).id])
        assert await store.unblocked([], 9) == [letter(3).id], "what is on its way is not asked for again"

    # ---- events that may kill the process

    async def test_starts_are_counted_until_they_end(self, store: Store) -> None:
        assert await store.begun(["a", "b"]) == {}
        await store.begin(["a", "b"])
        await store.begin(["a"])
        assert await store.begun(["b", "a", "c"]) == {"a": 2, "b": 1}
        await store.ended(["a", "c"])
        assert await store.begun(["a", "b"]) == {"b": 1}
        await store.begin(["a"])
        assert await store.begun(["a"]) == {"a": 1}

    # ---- who did what

    async def test_what_was_done_is_written_down_newest_first_and_nothing_else(self, store: Store) -> None:
        await store.pause(Pause(ROUTE, "operator", "why", "ann", NOON))
        await store.resume(ROUTE, "bob", "well", NOON + SECOND)
        await store.resume(ROUTE, "bob", "nothing there", NOON + 2 * SECOND)
        await store.discard(["nothing"], "", "bob", "", NOON + 2 * SECOND)
        await store.pause(Pause(EVERYTHING, "flood", "50", "worker", NOON + SECOND))
        expected = [
            Audit(NOON + SECOND, "worker", "pause", "50", EVERYTHING, 0),
            Audit(NOON + SECOND, "bob", "resume", "well", ROUTE, 0),
            Audit(NOON, "ann", "pause", "why", ROUTE, 0),
        ]
        assert await store.audits(9) == expected
        assert await store.audits(1) == expected[:1]

    async def test_notes_that_utf8_cannot_hold_are_spelt_out(self, store: Store) -> None:
        await store.pause(Pause("caf\udce9", "operator", "caf\udce9", "caf\udce9", NOON))
        (pause,) = await store.resume("caf\udce9", "ann", "", NOON)
        assert [text.encode("utf-8", "backslashreplace") for text in (pause.note, pause.who)] == [rb"caf\udce9"] * 2
