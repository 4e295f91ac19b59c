"""One handler as a bank has registered it, and what can be wrong with that.

Code without a type checker may have written anything. What is only found out when an event comes costs a dead letter for each of
them, or the worker; so it is looked at here, before there is one.
"""

import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from investbus.event import Event

AfterDead = Literal["continue", "park"]
DEFAULT = "default"


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
        return place_of(self.handler)


def mistakes_of(registration: Registration) -> Iterator[str]:
    """A line for each."""
    yield from _name_mistakes(registration)
    yield from _handler_mistakes(registration)


def _name_mistakes(registration: Registration) -> Iterator[str]:
    names: tuple[Any, ...] = registration.names
    for name in names:
        if not isinstance(name, str):
            yield f'{name!r} is no name of an event; write a text, such as "portfolios.creation"'
            continue
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
    yield from (f"{label}: {mistake}" for mistake in _argument_mistakes(registration))
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


def _argument_mistakes(registration: Registration) -> Iterator[str]:
    """What a type checker would have found, and mistakes that are of the right type."""
    said: dict[str, Any] = msgspec.structs.asdict(registration)
    key, timeout, needs, retry = said["key"], said["timeout"], said["needs"], said["retry"]
    for name in ("dedup", "collapse", "supersede"):
        if not isinstance(said[name], bool | None):
            yield f"{name}= must be True or False, and is {said[name]!r}"
    if not isinstance(retry, Mapping):
        yield f'retry= must be a dict of the keys of retry:, such as {{"attempts": 3}}, and is {type(retry).__name__}'
    if inspect.iscoroutinefunction(key):
        yield "key= must be a plain function of the event, not an async one"
    elif key is not None and not callable(key):
        yield f"key= must be a function of the event, and is {type(key).__name__}"
    if timeout is not None and (isinstance(timeout, bool) or not (isinstance(timeout, int | float) and 0 < timeout < math.inf)):
        yield f"timeout= must be a positive number of seconds, and is {timeout!r}; write it as in timeout=20.0"
    if needs is not None and not all(isinstance(name, str) and name for name in needs):
        yield 'needs= must be a list of names, such as ["api"]'


def lifespan_mistakes(function: Any) -> Iterator[str]:
    """What can be seen of a lifespan before it is called."""
    inner = inspect.unwrap(function) if callable(function) else function
    if inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(inner):
        yield "the lifespan is no async context manager; write @asynccontextmanager under @router.lifespan, then async def"
    elif not callable(function):
        yield f"the lifespan must be an @asynccontextmanager function, and is {type(function).__name__}"
    else:
        try:
            inspect.signature(function).bind()
        except TypeError:
            yield "the lifespan must take no arguments"


def middleware_mistakes(function: Any) -> Iterator[str]:
    """What can be seen of a middleware before it is called."""
    name = getattr(function, "__name__", "middleware")
    label = f"middleware {getattr(function, '__name__', repr(function))}"
    called = type(function).__call__ if callable(function) else None
    if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)):
        yield f"{label} is no async function; write: async def {name}(event, ctx, call_next)"
        return
    try:
        inspect.signature(function).bind(None, None, None)
    except TypeError:
        yield f"{label} must take three arguments: (event, ctx, call_next)"


def model_of(handler: Callable[..., Any]) -> Any:
    """The model in `Event[Model]` of the handler's first argument; None where `data` stays a dict."""
    first = next(iter(inspect.signature(handler).parameters.values()))
    annotation = get_type_hints(handler).get(first.name)
    if get_origin(annotation) is not Event:
        return None
    (model,) = get_args(annotation)
    return None if model is dict or get_origin(model) is dict or model is Any else model


def place_of(function: Callable[..., Any]) -> str:
    """file:line of a function, relative to the current folder where it lies inside."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return getattr(function, "__module__", "?")
    path = os.path.relpath(code.co_filename)
    return f"{code.co_filename if path.startswith('..') else path}:{code.co_firstlineno}"
