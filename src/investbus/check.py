"""What `investbus check` finds: settings that are each allowed and together break a promise, and what the other side says.

A finding is a line for people. Nothing here changes anything, and nothing is published.
"""

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from investbus.ambient import real
from investbus.config import RouteOverride, Settings
from investbus.errors import ApiUnavailable, StoreError
from investbus.metrics import Metrics
from investbus.platform.client import Client
from investbus.router import RouteTable
from investbus.routes import overrides, parks, policy_of, timeout_of
from investbus.store import Store
from investbus.stores import store_url
from investbus.transport import Transport


def offline(settings: Settings, table: RouteTable) -> Iterator[str]:
    """Findings that need no connection."""
    grace, by_name = settings.shutdown.grace, overrides(settings, table)
    for entry in table.entries:
        override = by_name.get(entry.name, RouteOverride())
        timeout = timeout_of(settings, entry, override)
        if timeout > grace:
            yield f"route {entry.name}: timeout {timeout:g} s is longer than shutdown.grace {grace:g} s; a stop would cancel it"
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
    yield from _store_in_plain_text(settings)
    if not settings.store.dedup:
        yield "store.dedup is false: repeated events are handled again"
    if not loopback(f"//{settings.ops.host}"):
        yield f"ops.host {settings.ops.host}: metrics and status are open to the network without a login"


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


async def connected(settings: Settings, transport: Transport, store: Store | None) -> list[str]:
    """What bus, API and store say. Raises TransportDown, ApiUnavailable or StoreError where one is not reachable."""
    findings = [f"{transport.name}: {line}" for line in await transport.check()]
    if settings.api is not None:
        client = Client(settings.api, Metrics(settings.transport), real(), answered=lambda: None)
        try:
            await client.log_in()
        except ApiUnavailable as error:
            if not error.refused:
                raise
            findings.append(f"api: {error}")
        finally:
            await client.close()
    if store is not None:
        try:
            await store.open()
        except StoreError as error:
            raise StoreError(f"store: {error}") from error
        try:
            for pause in await store.pauses():
                what, flag = (f"route {pause.route}", f" --route {pause.route}") if pause.route else ("the worker", "")
                why = f"{pause.reason}, by {pause.who}: {pause.note}"
                findings.append(f"paused: {what} ({why}); to go on: investbus resume{flag} --note TEXT")
        finally:
            await store.close()
    return findings
