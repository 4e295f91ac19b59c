"""From the table of handlers to routes that dispatch can run: settings, models and gates looked up once, at start."""

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError

from investbus.catalogue import canonical
from investbus.config import Retries, RouteOverride, Settings
from investbus.config_rules import retry_in_words
from investbus.errors import ConfigError, DataInvalid, noting
from investbus.gatehouse import Gatehouse
from investbus.metrics import Metrics
from investbus.plugins import near
from investbus.registration import model_of
from investbus.retry import RetryPolicy
from investbus.router import Entry, RouteTable, compose
from investbus.work import Route

T = TypeVar("T")
LONGEST_INTEGER = 4_300  # digits: Python's own limit for text


def overrides(settings: Settings, table: RouteTable) -> dict[str, RouteOverride]:
    """`routes:` of the configuration by entry name. Raises ConfigError for a name that no route has."""
    rows: dict[str, RouteOverride] = {}
    mistakes = []
    for name, override in settings.routes.items():
        entry = table.named(name)
        if entry is None:
            meant = near(canonical(name), (one.name for one in table.entries))
            hint = f"; did you mean {meant}?" if meant else ""
            mistakes.append(f"routes.{name}: no handler is registered under this name{hint}")
        else:
            rows[entry.name] = override
    if mistakes:
        raise ConfigError(mistakes)
    return rows


def build_routes(settings: Settings, table: RouteTable, gatehouse: Gatehouse, metrics: Metrics) -> dict[str, Route]:
    """Every route by its name, states not yet set. Raises ConfigError with the mistakes of all of them."""
    by_name: dict[str, RouteOverride] = {}
    routes: dict[str, Route] = {}
    mistakes: list[str] = []
    with noting(mistakes):
        by_name = overrides(settings, table)
    for entry in table.entries:
        with noting(mistakes):
            routes[entry.name] = _route(settings, entry, by_name.get(entry.name, RouteOverride()), gatehouse, metrics)
    if mistakes:
        raise ConfigError(mistakes)
    return routes


def timeout_of(settings: Settings, entry: Entry, override: RouteOverride) -> float:
    """Seconds per attempt: configuration before decorator before default."""
    return override.timeout or entry.found.registration.timeout or settings.dispatch.timeout


def policy_of(settings: Settings, entry: Entry, override: RouteOverride) -> RetryPolicy:
    """The retry policy of a route. Raises ConfigError where the decorator's `retry=` is wrong."""
    decorated = {name: value for name, value in entry.found.registration.retry.items() if value is not None}
    said = settings.retry.model_dump() | decorated | override.retry.model_dump(exclude_none=True)
    try:
        return RetryPolicy(**Retries.model_validate(said, strict=True).model_dump())
    except ValidationError as error:  # of the decorator: what the configuration says was looked at before
        label = f"{entry.place}: handler of {entry.name}"
        raise ConfigError([f"{label}: {retry_in_words(fault)}" for fault in error.errors()]) from None


def parks(entry: Entry, override: RouteOverride) -> bool:
    """Whether later events of a key wait behind one that died."""
    return (override.after_dead or entry.found.registration.after_dead) == "park"


def needs_of(settings: Settings, entry: Entry, override: RouteOverride) -> Sequence[str]:
    """The gates at which its events wait."""
    said = entry.found.registration.needs if override.needs is None else override.needs
    if said is None:
        return ("api",) if settings.api is not None else ()
    return said


def _route(settings: Settings, entry: Entry, override: RouteOverride, gatehouse: Gatehouse, metrics: Metrics) -> Route:
    registration = entry.found.registration
    model = model_of(registration.handler)
    dedup = override.dedup if override.dedup is not None else registration.dedup
    supersede = _chosen(override.supersede, registration.supersede)
    if supersede and dedup is False:
        why = "the record of a later success is what makes a dead letter obsolete"
        raise ConfigError([f"{entry.place}: handler of {entry.name}: supersede needs dedup: {why}"])
    return Route(
        name=entry.name,
        call=compose(registration.handler, entry.found.middleware),
        handler=entry.handler,
        place=entry.place,
        counts=metrics.route(entry.name),
        timeout=timeout_of(settings, entry, override),
        policy=policy_of(settings, entry, override),
        gates=tuple(gatehouse.gate(name) for name in needs_of(settings, entry, override)),
        dedup=settings.store.dedup if dedup is None else dedup and settings.store.dedup,
        validate=None if model is None else _validator(entry, model),
        key=registration.key,
        collapse=_chosen(override.collapse, registration.collapse),
        park=parks(entry, override),
        supersede=supersede,
    )


def _chosen(configured: T | None, decorated: T) -> T:
    return decorated if configured is None else configured


def _validator(entry: Entry, model: Any) -> Callable[[Any], Any]:
    try:
        return validator_of(model)
    except PydanticUserError as error:
        name, unread = getattr(model, "__name__", repr(model)), isinstance(error, PydanticSchemaGenerationError)
        said = "is nothing that pydantic can read" if unread else f"is wrong: {error.message}"
        raise ConfigError([f"{entry.place}: handler of {entry.name}: Event[{name}]: {name} {said}"]) from None


def validator_of(model: Any) -> Callable[[Any], Any]:
    """`data` to the model. Where that has integers, endless numbers are refused first: pydantic would write them out, which takes
    28 s for a million digits (measured)."""
    adapter = TypeAdapter(model)
    validate: Callable[[Any], Any] = adapter.validator.validate_python
    try:
        has_integers = '"integer"' in json.dumps(adapter.json_schema())
    except (PydanticInvalidForJsonSchema, TypeError):
        has_integers = True
    return (lambda data: validate(_writable(data))) if has_integers else validate


def _writable(value: Any) -> Any:
    """`value`, if no number in it would take more than so many digits as an integer. Raises DataInvalid."""
    match value:
        case Decimal():
            if abs(value.adjusted()) > LONGEST_INTEGER or len(value.as_tuple().digits) > LONGEST_INTEGER:
                raise DataInvalid(f"a number of data has more than {LONGEST_INTEGER} digits, and the model has integers")
        case dict():
            for one in value.values():
                _writable(one)
        case list():
            for one in value:
                _writable(one)
    return value


def set_states(routes: Mapping[str, Route], table: RouteTable, states: Mapping[Any, Any]) -> None:
    """Give each route what the lifespan of its router yielded."""
    for entry in table.entries:
        routes[entry.name].state = states.get(entry.found.home)
