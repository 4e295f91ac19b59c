"""Which handler takes an event. What a bank writes with decorators (`Router`) becomes one table at start (`RouteTable`).

The table is asked by name and answers with a route and the reason; dispatch and `investbus routes NAME` ask the same function.
Everything that can be known to be wrong is refused at start, with the places in the handlers' files.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

import msgspec

from investbus.catalogue import canonical, known
from investbus.errors import ConfigError
from investbus.event import Event
from investbus.registration import (
    DEFAULT,
    AfterDead,
    Registration,
    lifespan_mistakes,
    middleware_mistakes,
    mistakes_of,
    place_of,
)

Handler = Callable[[Event[Any], Any], Awaitable[None]]
Middleware = Callable[[Event[Any], Any, Handler], Awaitable[None]]
Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
Kind = Literal["exact", "wildcard", "default"]

REMEMBERED_NAMES = 10_000  # names come from the bus: what is remembered of them is bounded


class Found(msgspec.Struct, frozen=True):
    """A registration with what its routers put around it; `home` is the router whose lifespan gives it its state."""

    registration: Registration
    middleware: tuple[Middleware, ...]
    home: "Router"


class Router:
    """Collects the handlers of a bank. Several may be loaded side by side, or one `include`d in another."""

    def __init__(self) -> None:
        self._registrations: list[Registration] = []
        self._middleware: list[Middleware] = []
        self._included: list[Router] = []
        self.lifespan_of: Lifespan | None = None

    def on(
        self,
        name: str,
        *aliases: str,
        timeout: float | None = None,
        key: Callable[[Event[Any]], str | None] | None = None,
        needs: Sequence[str] | None = None,
        retry: Mapping[str, Any] | None = None,
        dedup: bool | None = None,
        collapse: bool = False,
        after_dead: AfterDead = "continue",
        supersede: bool = False,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register an async function `(event, ctx)` for events called `name` or one of `aliases`.

        `*` stands for a whole part of a name. `timeout` is seconds per attempt, `key` a function of the event that says what it
        is ordered by, `needs` the gates that it waits at (default: `api`, if the API is configured), `retry` a dict of the keys
        of `retry:` in the configuration, `dedup=False` runs repeated events again.

        `collapse=True`: queued events of one key are handled once, by the newest, and the others share its outcome.
        `after_dead="park"`: when an event dies, later ones of its key are stored behind it, and run after it was replayed.
        `supersede=True`: a dead letter about an entity is obsolete once a later event about it was done.
        """
        given: object = name
        if callable(given):  # without parentheses nothing would be registered, and nobody told
            raise ConfigError([f'{place_of(given)}: name the event, as in @router.on("portfolios.creation")'])

        def register(handler: Callable[..., Any]) -> Callable[..., Any]:
            self._registrations.append(
                Registration(
                    names=(name, *aliases),
                    handler=handler,
                    timeout=timeout,
                    key=key,
                    needs=None if needs is None else (needs,) if isinstance(needs, str) else tuple(needs),
                    retry={} if retry is None else retry,
                    dedup=dedup,
                    collapse=collapse,
                    after_dead=after_dead,
                    supersede=supersede,
                )
            )
            return handler

        return register

    def default(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Register the handler of every event that no other route takes."""
        self._registrations.append(Registration((DEFAULT,), handler))
        return handler

    def include(self, router: "Router") -> None:
        """Take over the routes of another router, inside the middleware of this one."""
        self._included.append(router)

    def lifespan(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Register an `@asynccontextmanager` function: what it yields is `ctx.state`, for as long as the worker runs."""
        self.lifespan_of = function
        return function

    def middleware(self, function: Middleware) -> Middleware:
        """Register `async (event, ctx, call_next)`, run around every attempt of this router's handlers, first one outermost."""
        self._middleware.append(function)
        return function

    def found(self, outer: tuple[Middleware, ...] = (), home: "Router | None" = None) -> Iterator[Found]:
        """Every registration of this router and of those that it includes."""
        middleware = (*outer, *self._middleware)
        home = self if self.lifespan_of is not None or home is None else home
        for registration in self._registrations:
            yield Found(registration, middleware, home)
        for router in self._included:
            yield from router.found(middleware, home)


class Match(msgspec.Struct, frozen=True):
    """The route that takes a name, and why."""

    entry: "Entry | None"
    why: str


class Entry(msgspec.Struct, frozen=True, eq=False):
    """One row of the table."""

    name: str  # canonical where the catalogue knows the event, else as registered; for a wildcard the pattern
    kind: Kind
    aliases: tuple[str, ...]
    found: Found

    @property
    def place(self) -> str:
        return self.found.registration.place

    @property
    def handler(self) -> str:
        function = self.found.registration.handler
        return f"{function.__module__}:{getattr(function, '__qualname__', repr(function))}"


class RouteTable:
    """Names to entries: exact beats `subject.*` beats `*.action` beats `*.*`, then the default."""

    def __init__(self, found: Sequence[Found]) -> None:
        """Raises ConfigError with a line for each registration that cannot be."""
        self.entries: list[Entry] = []
        self._by_name: dict[str, Entry] = {}  # exact names (canonical and registered), patterns, DEFAULT
        self._matches: dict[str, Match] = {}
        mistakes = [line for one in found for line in self._add(one)]
        for lifespan in dict.fromkeys(one.home.lifespan_of for one in found if one.home.lifespan_of is not None):
            mistakes += (f"{place_of(lifespan)}: {mistake}" for mistake in lifespan_mistakes(lifespan))
        for middleware in dict.fromkeys(function for one in found for function in one.middleware):
            mistakes += (f"{place_of(middleware)}: {mistake}" for mistake in middleware_mistakes(middleware))
        if (rest := self._by_name.get(DEFAULT)) is not None and (all_names := self._by_name.get("*.*")) is not None:
            mistakes.append(f'{rest.place}: the default handler can never match: "*.*" takes every name, at {all_names.place}')
        if mistakes:
            raise ConfigError(mistakes)

    def match(self, name: str) -> Match:
        """Which entry takes events called `name`, and why. The one answer for dispatch and for `investbus routes NAME`."""
        if (match := self._matches.get(name)) is None:
            match = self._explain(name)
            if len(self._matches) < REMEMBERED_NAMES:
                self._matches[name] = match
        return match

    def named(self, name: str) -> Entry | None:
        """The entry that was registered under this very name, alias or pattern."""
        return self._by_name.get(name) or self._by_name.get(canonical(name))

    def _explain(self, name: str) -> Match:
        official = canonical(name)
        if (entry := self.named(name)) is not None and entry.kind == "exact":
            why = f'"{name}" is registered' if official == name else f'"{name}" is another name of "{official}"'
            return Match(entry, why)
        for pattern in _patterns(official, name):
            if (entry := self._by_name.get(pattern)) is not None:
                return Match(entry, f'"{pattern}" matches, and no route names "{official}" itself')
        if (entry := self._by_name.get(DEFAULT)) is not None:
            return Match(entry, "no route matches, so the default handler takes it")
        return Match(None, "no route matches and there is no default handler: dispatch.unrouted decides")

    def _add(self, found: Found) -> Iterator[str]:
        registration = found.registration
        if mistakes := list(mistakes_of(registration)):
            yield from (f"{registration.place}: {mistake}" for mistake in mistakes)
            return
        first = registration.names[0]
        kind: Kind = "default" if first == DEFAULT else "wildcard" if "*" in first else "exact"
        name = canonical(first) if kind == "exact" else first
        listed = known(name)
        aliases = dict.fromkeys((*registration.names, *(listed.aliases if listed and kind == "exact" else ())))
        aliases.pop(name, None)
        entry = Entry(name, kind, tuple(aliases), found)
        clashes = [line for one in registration.names if (line := self._clash(one, entry))]
        yield from clashes
        if not clashes:
            self.entries.append(entry)
            for one in registration.names:
                self._by_name[one if "*" in one else canonical(one)] = entry

    def _clash(self, name: str, entry: Entry) -> str | None:
        official = name if "*" in name else canonical(name)
        other = self._by_name.get(official)
        if other is None:
            return None
        said = f'"{name}" is another name of "{official}",' if official != name else f'"{name}" is'
        return f"{entry.place}: {said} already handled at {other.place}"


def _patterns(official: str, name: str) -> Iterator[str]:
    names = [part.partition(".") for part in dict.fromkeys((official, name))]
    yield from (f"{subject}.*" for subject, _, _ in names)
    yield from (f"*.{action}" for _, _, action in names)
    yield "*.*"


def compose(handler: Handler, middleware: Sequence[Middleware]) -> Handler:
    """The handler with its middleware around it; without any it is the handler itself."""
    for function in reversed(middleware):
        handler = _wrapped(function, handler)
    return handler


def _wrapped(function: Middleware, inner: Handler) -> Handler:
    return lambda event, ctx: function(event, ctx, inner)
