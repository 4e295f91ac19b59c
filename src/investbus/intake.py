"""From a delivery to a work in its lane: decode, route, validate, and look up what was done before.

Decoding happens at receipt, not in the slot: the key comes from the data, and data that does not fit needs no slot. Nothing that
a message holds can raise out of here; what is no event becomes a work whose verdict is a dead letter.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from investbus.ambient import Ambient
from investbus.catalogue import ordering_key
from investbus.config import Dispatch
from investbus.crash import CrashJournal
from investbus.errors import DataInvalid, DecodeError, Reject, StoreError
from investbus.event import Envelope, Event, parse_created
from investbus.metrics import UNKNOWN, Metrics
from investbus.outcome import Dead, Ending
from investbus.retry import RetryPolicy
from investbus.router import REMEMBERED_NAMES, RouteTable
from investbus.settle import STORE_AGAIN, settle
from investbus.store import DeadLetter, Identity, Store, body_hash, identity_of
from investbus.transport import Delivery
from investbus.work import Replaying, Route, Work

log = structlog.get_logger("investbus.intake")
T = TypeVar("T")
PIECE = 100  # deliveries decoded in one go: 500 would be a span of 2 ms by itself
Decode = Callable[[bytes, Mapping[str, str]], list[Envelope]]


async def _no_handler(event: Event[Any], ctx: Any) -> None:
    raise AssertionError("an event without a route is never run")


class Unrouted(Reject):
    """No route takes the event, and `dispatch.unrouted` says dead."""


class Intake:
    """Turns deliveries into works. One per worker."""

    def __init__(
        self,
        decode: Decode,
        table: RouteTable,
        routes: Mapping[str, Route],
        settings: Dispatch,
        store: Store | None,
        journal: CrashJournal | None,
        keep_done: float,
        source: str,
        metrics: Metrics,
        ambient: Ambient,
    ) -> None:
        self._decode = decode
        self._table = table
        self.routes = routes  # by name of the entry
        self._settings = settings
        self._store = store
        self._journal = journal
        self._keep_done = keep_done
        self._source = source
        self._metrics = metrics
        self._ambient = ambient
        self._pending: dict[Identity, Work] = {}  # the first receipt that is not settled: what the store cannot know yet
        self._unrouted_seen: set[str] = set()
        self.failing = ""  # why the store cannot be asked now
        self.ended: Callable[[str, Ending], None] = lambda event_id, ending: None  # for who waits for single events
        unknown = metrics.route(UNKNOWN)
        self._unknown = Route(UNKNOWN, _no_handler, "", "", unknown, settings.timeout, RetryPolicy())

    async def take(self, deliveries: Sequence[Delivery], breathe: Callable[[], Awaitable[None]]) -> list[Work]:
        """The works of these deliveries, in order; what needs no work is settled on the way.

        The store is asked once for all of them. `breathe` is awaited now and then, to give the event loop its turn.
        """
        works: list[Work] = []
        now, arrived = self._ambient.wall(), self._ambient.monotonic()
        for start in range(0, len(deliveries), PIECE):
            for delivery in deliveries[start : start + PIECE]:
                self._take_one(delivery, works, now, arrived)
            await breathe()
        if self._store is not None:
            works = await self._without_done(works)
        if self._journal is not None:
            journal = self._journal
            await self._asked(lambda: journal.look(works))
        return works

    def rework(self, envelope: Envelope, letter: DeadLetter, delivery: Delivery, run: Replaying) -> Work:
        """The work of a dead letter that runs again, on the route that takes its name now; there has to be one."""
        entry = self._table.match(envelope.name).entry
        assert entry is not None
        route = self.routes[entry.name]
        event, verdict = _event(envelope, envelope.name, letter.body, route)
        now, arrived = self._ambient.wall(), self._ambient.monotonic()
        work = Work(event, delivery, route, now, arrived, verdict=verdict, replay=run, letter=letter)
        self._identify(work, letter.source)
        return work

    def forget(self, work: Work, identity: Identity) -> None:
        """A work was settled: from now on the store knows."""
        copies = work.copies
        if copies is None or len(copies) == 1:
            del self._pending[identity]
            return
        copies.remove(work)
        self._pending[identity] = copies[0]
        for copy in copies if work.ended else ():
            copy.repeated = copy.repeated or copy.event.raw == work.event.raw

    def _take_one(self, delivery: Delivery, works: list[Work], now: float, arrived: float) -> None:
        body = delivery.body
        if not body and not delivery.fault:
            self._unknown.counts.received += 1
            settle(delivery, self._unknown.counts, "ignored")
            return
        try:
            envelopes = self._read(delivery)
        except DecodeError as error:
            self._metrics.undecodable[error.reason] += 1
            works.append(self._undecodable(delivery, error, now, arrived))
            return
        delivery.parts = max(1, len(envelopes))
        if not envelopes:
            self._unknown.counts.received += 1
            settle(delivery, self._unknown.counts, "ignored")
        for envelope in envelopes:
            self._take_envelope(delivery, envelope, works, now, arrived)

    def _read(self, delivery: Delivery) -> list[Envelope]:
        """What the message holds. Raises DecodeError and nothing else, whatever a dialect of somebody's own raises."""
        if delivery.fault:
            raise DecodeError(delivery.fault, "the transport cannot read the message")
        if (size := len(delivery.body)) > self._settings.max_event_bytes:
            raise DecodeError("size", f"{size} bytes; dispatch.max_event_bytes is {self._settings.max_event_bytes}")
        try:
            return self._decode(delivery.body, delivery.headers)
        except DecodeError as error:
            if error.reason in self._metrics.undecodable:
                raise
            raise DecodeError("envelope", f"{error.reason}: {error}") from None
        except Exception as error:
            raise DecodeError("envelope", f"the dialect failed with {type(error).__name__}") from error

    def _take_envelope(self, delivery: Delivery, envelope: Envelope, works: list[Work], now: float, arrived: float) -> None:
        name = envelope.name
        entry = self._table.match(name).entry
        route = self._unknown if entry is None else self.routes[entry.name]
        route.counts.received += 1
        if entry is None and self._settings.unrouted == "ignore":
            self._tell_unrouted(name)
            self.ended(envelope.id, settle(delivery, route.counts, "ignored"))
            return
        event, verdict = _event(envelope, name, delivery.body, route)
        if entry is None:
            verdict = Dead("unrouted", Unrouted(f'no route takes "{name}"'))
        work = Work(event, delivery, route, now, arrived, verdict=verdict)
        self._identify(work, self._source)
        if self._journal is not None:
            self._journal.notice(work)
        works.append(work)

    def _identify(self, work: Work, source: str) -> None:
        """Give it the identity by which a repetition is known. Copies that are not settled share a list, where there are any."""
        event = work.event
        if self._store is None or not work.route.dedup:
            return
        work.identity = identity = identity_of(source, event.name, event.created_raw, event.id)
        first = self._pending.setdefault(identity, work)
        if first is not work:
            if first.event.raw != event.raw:
                self._tell_other_content(event, work.route)
            work.copies = first.copies = first.copies or [first]
            work.copies.append(work)

    def _undecodable(self, delivery: Delivery, error: DecodeError, now: float, arrived: float) -> Work:
        origin = delivery.origin
        event: Event[Any] = Event("", None, "", "", "", "", "", origin, {}, delivery.body)
        return Work(event, delivery, self._unknown, now, arrived, verdict=Dead("undecodable", error))

    async def _without_done(self, works: list[Work]) -> list[Work]:
        """Settle what was done before. While the store cannot be asked, wait: running an event twice is worse than later."""
        identities = [work.identity for work in works if work.identity is not None]
        if not identities:
            return works
        known = await self._find_done(identities)
        if not known:
            return works
        left = []
        for work in works:
            hit = None if work.identity is None else known.get(work.identity)
            if work.identity is not None and hit is not None and hit == body_hash(work.event.raw):
                self.forget(work, work.identity)
                self.ended(work.event.id, settle(work.delivery, work.route.counts, "duplicate"))
                continue
            if hit is not None:
                self._tell_other_content(work.event, work.route)
            left.append(work)
        return left

    async def _find_done(self, identities: Sequence[Identity]) -> Mapping[Identity, bytes]:
        assert self._store is not None
        since = datetime.fromtimestamp(max(0.0, self._ambient.wall() - self._keep_done), UTC)
        store = self._store
        return await self._asked(lambda: store.find_done(identities, since))

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The store's answer, however long it takes."""
        while True:
            try:
                with self._metrics.stored("lookup"):
                    found = await ask()
            except StoreError as error:
                if not self.failing:
                    log.error("the store cannot be asked what was done; events wait", error=str(error), again_in=STORE_AGAIN)
                self.failing = str(error)
                await asyncio.sleep(STORE_AGAIN)
                continue
            self.failing = ""
            return found

    def _tell_other_content(self, event: Event[Any], route: Route) -> None:
        log.warning("an event id came again with other content; it is handled", event_id=event.id, route=route.name)

    def _tell_unrouted(self, name: str) -> None:
        if name not in self._unrouted_seen and len(self._unrouted_seen) < REMEMBERED_NAMES:
            self._unrouted_seen.add(name)
            log.info("no route takes these events; they are acked and ignored", name=name)


def _event(envelope: Envelope, name: str, raw: bytes, route: Route) -> tuple[Event[Any], Dead | None]:
    """The event as its handler gets it, or with `data` as it came and a verdict where it does not fit."""
    created = parse_created(envelope.created)
    data: Any = envelope.data
    key = ordering_key(data, envelope.id)
    verdict = None
    if route.validate is not None:
        try:
            data = route.validate(data)
        except Exception as error:  # a model's own validators can raise anything
            verdict = Dead("data_invalid", _invalid(error))
    event: Event[Any] = Event(
        envelope.id, created, envelope.created, envelope.version, envelope.subject, envelope.action, name, key, data, raw
    )
    if route.key is not None and verdict is None:
        try:
            chosen: Any = route.key(event)
        except Exception as error:
            return event, Dead("data_invalid", DataInvalid(f"the route's key function failed: {type(error).__name__}"))
        if not isinstance(chosen, str | int | None):
            said = f"the route's key function gave no text but {type(chosen).__name__}"
            return event, Dead("data_invalid", DataInvalid(said))
        return _with_key(event, str(chosen or event.id)), None
    return event, verdict


def _with_key(event: Event[Any], key: str) -> Event[Any]:
    fields = (event.id, event.created, event.created_raw, event.version, event.subject, event.action, event.name)
    return Event(*fields, key, event.data, event.raw)


def _invalid(error: Exception) -> DataInvalid:
    """Which fields break which rule; never their values."""
    if isinstance(error, DataInvalid):
        return error
    if not isinstance(error, ValidationError):
        return DataInvalid(f"the model refused data: {type(error).__name__}")
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    places = (f"data.{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults[:10])
    return DataInvalid("; ".join(places))
