"""What operators ask of running workers: pauses and replays. The store is the mailbox; workers look into it once a second.

A replay is a frozen list of dead letters. One worker at a time holds it, for a claim that it renews with every look, so a worker
that dies leaves the rest to another one; what an item has come to is written once. No request goes through HTTP, so there is
nothing there to protect.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from investbus.records import DeadLetter, Done, Filter, State

EVERYTHING = ""  # the route of a pause that holds the whole worker
PauseReason = Literal["operator", "flood"]
ReplayState = Literal["pending", "running", "done", "stopped", "cancelled"]
ACTIVE: tuple[ReplayState, ...] = ("pending", "running")
ItemOutcome = Literal["done", "dead", "skipped"]
REPLAYED: tuple[ItemOutcome, ...] = ("done", "dead", "skipped")


class Pause(msgspec.Struct, frozen=True):
    """No handler of `route` is started, or none at all. One per route and reason; `note` says why, `who` set it."""

    route: str
    reason: PauseReason
    note: str
    who: str
    at: datetime


class Replay(msgspec.Struct, frozen=True):
    """A request to run dead letters again, and how far it is. `planned` is the length of the frozen list.

    `wanted` is the selection in words, `rate` in events per second, `stop_after` how many may die again before it stops.
    `reason` says why it was stopped.
    """

    id: str
    note: str
    who: str
    at: datetime
    wanted: str
    rate: float
    stop_after: int
    again: bool
    state: ReplayState = "pending"
    reason: str = ""
    planned: int = 0
    done: int = 0
    dead: int = 0
    skipped: int = 0


class Item(msgspec.Struct, frozen=True):
    """One letter of a replay that has come to nothing yet; `seq` is its place in the list, from 1."""

    seq: int
    letter: DeadLetter


class ItemEnd(msgspec.Struct, frozen=True):
    """What an item has come to.

    done: the letter becomes `replayed`, and `record` says that the event needs nothing more. dead: `letter` takes the place of the
    stored one in everything, its state too, but for that one's `id` and `first_at`. skipped: the letter stays as it is, but for the
    state of one that is still open or parked where `becomes` names another; `reason` says why.
    """

    seq: int
    letter: DeadLetter
    outcome: ItemOutcome
    reason: str = ""
    record: Done | None = None
    becomes: State | None = None


class Reason(msgspec.Struct, frozen=True):
    """Why some items of a replay are not done: the error of those that died, or why those that were skipped did not run.
    `sample` is the id of one of the letters."""

    outcome: ItemOutcome
    reason: str
    count: int
    sample: str


class Audit(msgspec.Struct, frozen=True):
    """Who did what, when and why: `action` is replay, cancel, discard, pause or resume; `count` how many letters it was about.

    `wanted` is the selection in words, the id of the replay that was cancelled, or the route that was paused or resumed.
    """

    at: datetime
    who: str
    action: str
    note: str
    wanted: str
    count: int


class Mailbox(Protocol):
    """The part of a store that carries requests. Every method raises `StoreError` and nothing else; what it did is durable."""

    # ---- pauses

    async def pauses(self) -> list[Pause]:
        """Oldest first."""
        ...

    async def pause(self, pause: Pause) -> None:
        """The same pause again only changes who, when and why."""
        ...

    async def resume(self, route: str, who: str, note: str, at: datetime) -> list[Pause]:
        """End every pause of exactly this route (`EVERYTHING`: those of the whole worker); which they were."""
        ...

    # ---- dead letters

    async def select_dead(self, wanted: Filter, ids: Sequence[str] | None = None) -> list[str]:
        """The ids that the filter matches, in the order in which they were first stored: so a key stays in order, whatever the
        clocks of those who stored them have said.

        With `ids`, only those among them that also match.
        """
        ...

    async def discard(self, ids: Sequence[str], wanted: str, who: str, note: str, at: datetime) -> int:
        """Open and parked letters become `discarded`; how many did."""
        ...

    async def done_among(self, letters: Sequence[DeadLetter]) -> set[str]:
        """The ids of those letters whose very event (`store.identity_of` it, and its body) has been done after all."""
        ...

    async def blocking(self, key: str, routes: Sequence[str]) -> str | None:
        """The oldest open or parked letter of this key on these routes: a later event of the key has to wait behind it."""
        ...

    async def unblocked(self, routes: Sequence[str], limit: int) -> list[str]:
        """Parked letters that may go on, oldest first.

        Of these routes those before which no open letter of their key stands there, unless the oldest of the key is on its way
        already, in an active replay. Of other routes all that are not: nothing is parked there any more.
        """
        ...

    # ---- replays

    async def ask_replay(self, replay: Replay, letters: Sequence[str]) -> None:
        """Freeze the list, in this order, each letter once. One that has come to nothing yet in another active replay is skipped;
        a replay whose id is there already is left as it is. Whether a letter still has to be run (`again`) is for the worker to
        say, at its turn."""
        ...

    async def take_replay(self, worker: str, now: datetime, until: datetime, besides: Sequence[str] = ()) -> Replay | None:
        """Claim the oldest active replay that nobody holds at `now`, or that this worker holds already, but for those that it is
        about. It is running then."""
        ...

    async def next_items(self, replay_id: str, worker: str, after: int, limit: int, until: datetime) -> list[Item] | None:
        """Items behind `after` that have come to nothing yet; the claim then lasts until `until`.

        None: it is no longer ours, because it was cancelled or another worker has taken it. A letter that has been forgotten
        meanwhile is skipped by the store.
        """
        ...

    async def end_items(self, replay_id: str, ends: Sequence[ItemEnd], at: datetime) -> None:
        """Letters, records and counts, all or nothing. The first outcome of an item stands; what comes later changes nothing.

        Whoever ran it may say so: a replay that was cancelled or taken over meanwhile still learns what came of its items.
        """
        ...

    async def end_replay(self, replay_id: str, worker: str, state: ReplayState, reason: str) -> None:
        """done or stopped, if it is still this worker's; pending gives it back for the next worker."""
        ...

    async def cancel_replay(self, replay_id: str, who: str, at: datetime) -> bool:
        """False where there is none that is active."""
        ...

    async def list_replays(self, limit: int) -> list[Replay]:
        """Newest first."""
        ...

    async def get_replay(self, replay_id: str) -> Replay | None: ...

    async def reasons(self, replay_id: str) -> list[Reason]:
        """Why items of a replay are not done; most frequent first."""
        ...

    # ---- events that may kill the process

    async def begin(self, starts: Sequence[str]) -> None:
        """Handlers of these events are about to run; their starts are counted."""
        ...

    async def ended(self, starts: Sequence[str]) -> None:
        """These runs ended, however: the process lives, so their count begins anew."""
        ...

    async def begun(self, starts: Sequence[str]) -> dict[str, int]:
        """How often each was begun since it last ended; those that were not are left out."""
        ...

    # ---- who did what

    async def audits(self, limit: int) -> list[Audit]:
        """Newest first. Pause, resume, discard, ask_replay and cancel_replay write one in the transaction of what they do; one that
        found nothing to do writes none."""
        ...
