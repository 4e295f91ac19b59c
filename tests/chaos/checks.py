"""The promises, as functions of what happened. Each says what it found wrong, for people; nothing found is an empty list."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from tests.chaos.history import NEVER, Departure, History, Sent, crashed, in_flight
from tests.chaos.ledger import Run

SHOWN = 5  # of a kind of violation


def violations(history: History) -> list[str]:
    """Everything that broke a promise."""
    everywhere = (lost, invented, misjudged, overlapping, out_of_order, settled_too_early, not_settled, returned, repeated, vacuous)
    return [line for check in everywhere for line in shortened(check(history))]


def shortened(found: Iterable[str]) -> list[str]:
    wrong = list(found)
    return wrong[:SHOWN] + ([f"and {len(wrong) - SHOWN} more like this"] if len(wrong) > SHOWN else [])


def lost(history: History) -> Iterable[str]:
    over = {run.event_id for run in history.runs if run.end is not None} | _given_up(history)
    return (f"lost: {sent} was never handled" for sent in history.sent if sent.event_id not in over)


def invented(history: History) -> Iterable[str]:
    known = {sent.event_id for sent in history.sent}
    return (f"invented: {run} was never sent" for run in history.runs if run.event_id not in known)


def misjudged(history: History) -> Iterable[str]:
    """The dead letters are those of the events that were to be rejected, and of those that seem to kill the process; no other."""
    doomed = {sent.event_id for sent in history.sent if sent.doomed}
    causes = {"rejected": doomed, "crashed": crashed(history)}
    for letter in history.dead:
        if letter.event_id not in causes.get(letter.reason, ()):
            yield f"dead: {letter} is there for no reason"
    for event_id in doomed - {letter.event_id for letter in history.dead}:
        yield f"dead: {event_id} is rejected by its handler, and has no dead letter"


def overlapping(history: History) -> Iterable[str]:
    """A key's runs come one after the other: within a process, and where the bus keeps the key together, over all of them."""
    died = {departure.pid: departure.begin for departure in history.departures if departure.killed}
    for runs in _lanes(history.runs, _by_key if history.keyed else _by_process_and_key):
        for earlier, later in pairwise(runs):
            end = earlier.end if earlier.end is not None else died.get(earlier.pid, NEVER)
            if later.begin < end:
                yield f"overlap: {later} began while {earlier} ran"


def out_of_order(history: History) -> Iterable[str]:
    """A key's first runs are in the order in which its events were sent: within a process, and over all where the bus keeps the
    key together. Where it does not, an event that came back from one who left may find later ones done.
    """
    sent = {event.event_id: event for event in history.sent}
    for apart in (_by_process_and_key, _by_key) if history.keyed else (_by_process_and_key,):
        for runs in _lanes(history.runs, apart):
            highest, seen = runs[0], set[str]()
            for run in runs:
                if run.event_id in seen:
                    continue
                seen.add(run.event_id)
                if run.seq < highest.seq and (history.keyed or not _came_back(run, sent, history.departures)):
                    yield f"order: {run} was first run after {highest}"
                highest = max(highest, run, key=lambda run: run.seq)


def settled_too_early(history: History) -> Iterable[str]:
    """The bus never gave up an event whose handler had not ended."""
    ended: dict[str, float] = {}
    for run in history.runs:
        if run.end is not None:
            ended[run.event_id] = min(run.end, ended.get(run.event_id, NEVER))
    given_up = _given_up(history)
    for event_id, at in history.settled.items():
        if at < ended.get(event_id, NEVER) and event_id not in given_up:
            yield f"settled: {event_id} was off the bus at {at:.3f}, and its handler ended at {ended.get(event_id)}"


def not_settled(history: History) -> Iterable[str]:
    return (f"end: {sent} is still on the bus" for sent in history.sent if sent.event_id not in history.settled)


def repeated(history: History) -> Iterable[str]:
    """An event runs once, and once more for each kill that caught it in flight. No other fault is a reason to run it again."""
    allowed = Counter(event_id for _, caught in in_flight(history) for event_id in caught)
    for event_id, count in Counter(run.event_id for run in history.runs).items():
        if count > 1 + allowed[event_id]:
            yield f"repeats: {event_id} ran {count} times, and was in flight at {allowed[event_id]} kills"


def returned(history: History) -> Iterable[str]:
    """Each time that the bus got an event back, somebody had left while it held it."""
    for event in history.sent:
        until, count = history.settled.get(event.event_id, NEVER), history.returned.get(event.event_id, 0)
        left = sum(event.at < departure.end and departure.begin < until for departure in history.departures)
        if count > left:
            yield f"returned: {event.event_id} came back {count} times, and {left} left while it was on the bus"


def vacuous(history: History) -> Iterable[str]:
    """A run whose kills hit nothing proves nothing."""
    hits = [bool(caught) for _, caught in in_flight(history)]
    if hits and sum(hits) * 2 < len(hits):
        yield f"void: only {sum(hits)} of {len(hits)} kills hit work in flight"


def unwatched(looks: Sequence[float]) -> Iterable[str]:
    """A bus that nobody looked at proves nothing."""
    seconds = looks[-1] - looks[0] if looks else 0.0
    if len(looks) < max(2, 3 * seconds):
        yield f"void: the bus was looked at only {len(looks)} times in {seconds:.0f} s"


def repeats(runs: Iterable[Run]) -> int:
    """How many runs there were beyond one per event."""
    return sum(count - 1 for count in Counter(run.event_id for run in runs).values())


def _given_up(history: History) -> set[str]:
    return {letter.event_id for letter in history.dead if letter.reason == "crashed"} & crashed(history)


def _came_back(run: Run, sent: dict[str, Sent], departures: Iterable[Departure]) -> bool:
    """Whether somebody left between the event's publishing and this run, and may have had it."""
    event = sent.get(run.event_id)
    return event is not None and any(event.at < left.end and run.begin > left.begin for left in departures)


def _by_key(run: Run) -> tuple[int, str]:
    return 0, run.key


def _by_process_and_key(run: Run) -> tuple[int, str]:
    return run.pid, run.key


def _lanes(runs: Iterable[Run], apart: Callable[[Run], tuple[int, str]]) -> Iterable[list[Run]]:
    lanes: dict[tuple[int, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.begin):
        lanes.setdefault(apart(run), []).append(run)
    return lanes.values()
