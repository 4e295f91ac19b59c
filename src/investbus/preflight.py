"""What must be asked of the store before some handlers may run: whether the key is parked, and that the start is written down.

Only events of routes that park, and those that may have killed a process, pass here.
"""

from collections.abc import Iterable

from investbus.crash import CrashJournal
from investbus.errors import Reject, StoreError
from investbus.mailbox import Mailbox
from investbus.outcome import Again, Dead, Outcome, Skipped
from investbus.settle import STORE_AGAIN
from investbus.work import Route, Work


class Parked(Reject):
    """An earlier event of the same key is a dead letter, and the route says `after_dead="park"`."""


class Preflight:
    """One per worker."""

    def __init__(self, store: Mailbox, journal: CrashJournal, routes: Iterable[Route]) -> None:
        self._store = store
        self.journal = journal
        self.parking = tuple(route.name for route in routes if route.park)

    async def before(self, work: Work) -> Outcome | None:
        """What becomes of the head of a lane, and its group, without a run; None: it may run."""
        outcome: Outcome | None = None
        runs = False
        try:
            outcome = await self._parked(work) if work.route.park else None
            if outcome is None and work.lead.journal:
                await self.journal.begin(work.lead)
            runs = outcome is None
        except StoreError as error:
            outcome = Again(STORE_AGAIN, error, spent=False)
        finally:  # also where it is cancelled
            if not runs:
                self.journal.step_aside(work.lead)
        return outcome

    def after(self, work: Work) -> None:
        """The attempt ended."""
        self.journal.step_aside(work.lead)
        if work.lead.journal:
            self.journal.end(work.lead)

    async def _parked(self, work: Work) -> Outcome | None:
        """Behind a dead letter of its key an event waits in the store; a replayed one runs if nothing older is in its way.

        Of a group that is the oldest which counts: the others stand behind it, and run with it.
        """
        first = await self._store.blocking(work.event.key, self.parking)
        if first is None or (work.letter is not None and first == work.letter.id):
            return None
        if work.replay is not None:
            return Skipped(f"parked behind {first}")
        return Dead("rejected", Parked(f"dead letter {first} of the same key comes first"), parked=True)
