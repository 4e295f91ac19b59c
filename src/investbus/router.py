"""Which handler takes an event. What a bank writes with decorators (`Router`) becomes one table at start (`RouteTable`).

The table is asked by name and answers with a route and the reason; dispatch and `investbus routes NAME` ask the same function.
Everything that can be known to be wrong is refused at start, with the places in the handlers' files.
"""

import inspect
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from investbus.catalogue import canonical, known
from investbus.errors import ConfigError
from investbus.event import Event

Handler = Callable[[Event[Any], Any], Awaitable[None]]
Middleware = Callable[[Event[Any], Any, Handler], Awaitable[None]]
Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
Kind = Literal["exact", "wildcard", "default"]
AfterDead = Literal["continue", "park"]

DEFAULT = "default"
REMEMBERED_NAMES = 10_000  # names come from the bus: what is remembered of them is bounded


class Registration(msgspec.Struct, frozen=True):
    """One decorated handler, as written. None means: not said."""

    names: tuple[str, ...]
    handler: Callable[..., Any]
    timeout: float | None = None
    key: Callable[[Event[Any]], str | None] | None = None
    needs: tuple[str, ...] | None = None
    retry: Mapping[str, Any] = {}
    dedup: bool | None = None
    collapse: bool = False
    after_dead: AfterDead = "continue"
    supersede: bool = False

    @property
    def place(self) -> str:
        """file:line of the handler, relative to the current folder where it lies inside."""
        return place_of(self.handler)


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

        def register(handler: Callable[..., Any]) -> Callable[..., Any]:
            self._registrations.append(
                Registration(
                    names=(name, *aliases),
                    handler=handler,
                    timeout=timeout,
                    key=key,
                    needs=None if needs is None else tuple(needs),
                    retry=dict(retry or {}),
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
        mistakes = [*_name_mistakes(registration), *_handler_mistakes(registration)]
        if mistakes:
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


def _name_mistakes(registration: Registration) -> Iterator[str]:
    for name in registration.names:
        parts = name.split(".")
        if name == DEFAULT:
            continue
        if len(parts) != 2 or not all(parts):
            yield f'"{name}" can never match: the name of an event is subject.action, two parts with one dot between them'
        elif any("*" in part and part != "*" for part in parts):
            yield f'"{name}" can never match: * stands for a whole part, as in "portfolios.*" or "*.status-update"'
        elif not name.isprintable() or any(len(part) > 200 for part in parts):
            yield f"{name!r} can never match: parts have at most 200 characters and no control characters"


def _handler_mistakes(registration: Registration) -> Iterator[str]:
    handler = registration.handler
    label = f"handler of {registration.names[0]}"
    if not inspect.iscoroutinefunction(handler):
        yield f"{label} is no async function; write: async def {getattr(handler, '__name__', 'handler')}(event, ctx)"
        return
    if inspect.iscoroutinefunction(registration.key):
        yield f"{label}: key= must be a plain function of the event, not an async one"
    if registration.after_dead not in get_args(AfterDead):
        yield f'{label}: after_dead="{registration.after_dead}" is neither "continue" nor "park"'
    try:
        inspect.signature(handler).bind(None, None)
    except TypeError:
        yield f"{label} must take two arguments: (event, ctx)"
    try:
        model = model_of(handler)
    except Exception as error:  # an annotation can hold any expression, so evaluating it can raise anything
        yield f"{label}: its annotations cannot be read: {error}"
        return
    if getattr(model, "model_config", {}).get("strict"):
        yield f"{label}: model {model.__name__} is strict, which refuses times and ids that come as JSON text; take strict off"


def model_of(handler: Callable[..., Any]) -> Any:
    """The model in `Event[Model]` of the handler's first argument; None where `data` stays a dict."""
    first = next(iter(inspect.signature(handler).parameters.values()))
    annotation = get_type_hints(handler).get(first.name)
    if get_origin(annotation) is not Event:
        return None
    (model,) = get_args(annotation)
    return None if model is dict or get_origin(model) is dict or model is Any else model


def place_of(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return getattr(function, "__module__", "?")
    path = os.path.relpath(code.co_filename)
    return f"{code.co_filename if path.startswith('..') else path}:{code.co_firstlineno}"


def compose(handler: Handler, middleware: Sequence[Middleware]) -> Handler:
    """The handler with its middleware around it; without any it is the handler itself."""
    for function in reversed(middleware):
        handler = _wrapped(function, handler)
    return handler


def _wrapped(function: Middleware, inner: Handler) -> Handler:
    return lambda event, ctx: function(event, ctx, inner)
