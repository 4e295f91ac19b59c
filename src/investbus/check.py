"""What `investbus check` finds: settings that are each allowed and together break a promise, and what the other side says.

A finding is a line for people. Nothing here changes anything, and nothing is published.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec

from investbus.ambient import real
from investbus.assembly import pieces
from investbus.catalogue import all_known, canonical, known
from investbus.config import RouteOverride, Settings
from investbus.errors import ApiUnavailable, StoreError, StoreRefused, TransportDown, TransportRefused, UnsafeStart
from investbus.mailbox import Pause
from investbus.metrics import Metrics
from investbus.platform.client import Client
from investbus.plugins import near
from investbus.registration import DEFAULT
from investbus.router import RouteTable
from investbus.routes import needs_of, overrides, parks, policy_of, timeout_of
from investbus.store import Store
from investbus.stores import store_url
from investbus.transport import Transport

ALIKE = 0.93  # below it stand events of one family, such as profile-created-for-portfolio and profile-updated-for-portfolio


class Report(msgspec.Struct, frozen=True):
    """What was found, and the other sides that could not be asked."""

    findings: list[str]
    guarantees: Mapping[str, str]
    routes: int
    failures: list[Exception]


async def report(settings: Settings, connect: bool) -> Report:
    """Look at everything that is configured, and with `connect` ask the other sides. Raises ConfigError."""
    table, transport, store = pieces(settings)
    findings, failures = [*_names(table), *offline(settings, table)], list[Exception]()
    if connect:
        for ask in (partial(_bus, transport), partial(_api, settings), partial(_store, store)):
            try:
                findings += await ask()
            except (TransportDown, ApiUnavailable, StoreError, UnsafeStart) as error:
                failures.append(error)
    return Report(list(dict.fromkeys(findings)), dict(transport.guarantees), len(table.entries), failures)


def offline(settings: Settings, table: RouteTable) -> Iterator[str]:
    """Findings that need no connection."""
    grace, by_name = settings.shutdown.grace, overrides(settings, table)
    for entry in table.entries:
        override = by_name.get(entry.name, RouteOverride())
        timeout = timeout_of(settings, entry, override)
        if timeout > grace:
            yield f"route {entry.name}: timeout {timeout:g} s is longer than shutdown.grace {grace:g} s; a stop would cancel it"
        if settings.api is not None and timeout <= settings.api.timeout and "api" in needs_of(settings, entry, override):
            yield (
                f"route {entry.name}: timeout {timeout:g} s is not above api.timeout {settings.api.timeout:g} s; "
                "while the platform does not answer, its events spend attempts instead of waiting at the gate"
            )
        attempts = policy_of(settings, entry, override).attempts
        if settings.gate.failures >= attempts:
            yield (
                f"route {entry.name}: gate.failures {settings.gate.failures} is not below retry.attempts {attempts}; "
                "an outage could dead-letter an event before its gate closes"
            )
    parking = [entry.name for entry in table.entries if parks(entry, by_name.get(entry.name, RouteOverride()))]
    if parking and not _shared(settings):
        said = "with SQLite each replica has a store of its own, and parks only what died there; use postgresql:// for several"
        yield f"route {parking[0]}: after_dead is park; {said}"
    if settings.api is not None and settings.api.base_url.startswith("http://") and not loopback(settings.api.base_url):
        yield f"api.base_url {settings.api.base_url}: credentials would travel in plain text; use https"
    if settings.api is not None and None in (_given(settings, "access_key_id"), _given(settings, "secret_access_key")):
        yield "api: the login needs access_key_id and secret_access_key, or their _file twins"
    yield from _bus_as_configured(settings)
    yield from _store_in_plain_text(settings)
    if not settings.store.dedup:
        yield "store.dedup is false: repeated events are handled again"
    if not loopback(f"//{settings.ops.host}"):
        yield f"ops.host {settings.ops.host}: metrics and status are open to the network without a login"


def _names(table: RouteTable) -> Iterator[str]:
    """Names that no event has, as far as the catalogue knows: it need not know all, so only what is very near one is told."""
    if not table.entries:
        yield "routes: there are none, so every event would be taken and ignored; register handlers with @router.on"
    names = [name for one in all_known() for name in (one.name, *one.aliases)]
    for entry in table.entries:
        for name in entry.found.registration.names:
            if "*" not in name and name != DEFAULT and known(canonical(name)) is None and (meant := near(name, names, ALIKE)):
                yield f"route {name} ({entry.place}): no event of the platform that is known here; did you mean {meant}?"


def _bus_as_configured(settings: Settings) -> Iterator[str]:
    """What the transport would say of its section before it connects."""
    if settings.rabbitmq is not None and settings.transport == "rabbitmq":
        url = settings.rabbitmq.management_url or ""
        if url.startswith("http://") and not loopback(url):
            yield f"rabbitmq.management_url {url}: credentials would travel in plain text; use https"
    try:
        yield from (f"{settings.transport}: {line}" for line in _in_the_clear(settings))
    except TransportRefused as refused:
        yield f"{settings.transport}: {refused}"


def _in_the_clear(settings: Settings) -> Iterator[str]:
    """Raises TransportRefused where a login or certificate cannot even be read."""
    match settings.transport:
        case "kafka" if settings.kafka is not None:
            from investbus.transports import kafka_security

            yield from kafka_security.in_the_clear(settings.kafka)
            kafka_security.connection(settings.kafka, 1.0)
        case "rabbitmq" if settings.rabbitmq is not None:
            from investbus.transports import rabbitmq_connection

            address = rabbitmq_connection.address(settings.rabbitmq)
            yield from address.in_the_clear
            if address.url.scheme == "amqps":
                rabbitmq_connection.tls(settings.rabbitmq)
        case "servicebus" if settings.servicebus is not None:
            from investbus.transports import servicebus_connection

            yield from servicebus_connection.in_the_clear(settings.servicebus)


def _store_in_plain_text(settings: Settings) -> Iterator[str]:
    if not (settings.store.url or settings.store.url_file) or not (url := store_url(settings.store)).startswith("postgresql:"):
        return
    from investbus.stores.postgresql_url import weak_hosts

    for host, mode in weak_hosts(url):
        if not loopback(f"//[{host}]" if ":" in host else f"//{host}"):
            yield f"store.url: sslmode {mode} towards {host}: others could read the password and events; use sslmode=verify-full"


def _shared(settings: Settings) -> bool:
    """Whether replicas share the store."""
    return bool(settings.store.url or settings.store.url_file) and store_url(settings.store).startswith("postgresql:")


def _given(settings: Settings, name: str) -> object:
    assert settings.api is not None
    return getattr(settings.api, f"{name}_file") or getattr(settings.api, name)


def loopback(url: str) -> bool:
    """Whether the host of `url` is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _bus(transport: Transport) -> list[str]:
    try:
        return [f"{transport.name}: {line}" for line in await transport.check()]
    except TransportRefused as refused:
        return [f"{transport.name}: {refused}"]


async def _api(settings: Settings) -> list[str]:
    if settings.api is None:
        return []
    client = Client(settings.api, Metrics(settings.transport), real(), answered=lambda: None)
    try:
        await client.log_in()
    except ApiUnavailable as error:
        if not error.refused:
            raise
        return [f"api: {error}"]
    finally:
        await client.close()
    return []


async def _store(store: Store) -> list[str]:
    try:
        await store.open()
    except StoreRefused as refused:
        return [str(refused)]
    try:
        return [_paused(pause) for pause in await store.pauses()]
    finally:
        await store.close()


def _paused(pause: Pause) -> str:
    what, flag = (f"route {pause.route}", f" --route {pause.route}") if pause.route else ("the worker", "")
    return f"paused: {what} ({pause.reason}, by {pause.who}: {pause.note}); to go on: investbus resume{flag} --note TEXT"
