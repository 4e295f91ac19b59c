"""A worker from its settings: the one place where the pieces meet."""

import os
import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import structlog

from investbus.ambient import Ambient, real
from investbus.config import Settings
from investbus.console import Console
from investbus.context import Resources
from investbus.controls import Controls
from investbus.crash import CrashJournal
from investbus.dispatcher import Dispatcher
from investbus.errors import ConfigError, noting
from investbus.flood import Flood
from investbus.gatehouse import Gatehouse
from investbus.intake import Intake
from investbus.metrics import Metrics
from investbus.pauses import Pauses
from investbus.platform.client import Client
from investbus.platform.wire import AiohttpWire, Wire
from investbus.plugins import load_dialect, load_handlers, load_transport, place_of_error
from investbus.preflight import Preflight
from investbus.redispatch import Redispatch
from investbus.registration import place_of
from investbus.replay_record import ReplayRecord
from investbus.replayer import Replayer
from investbus.router import Lifespan, Router, RouteTable
from investbus.routes import build_routes, set_states
from investbus.settle import Settler
from investbus.store import Store
from investbus.stores import open_store, store_url
from investbus.transport import Transport
from investbus.worker import Backed, Worker

log = structlog.get_logger("investbus.assembly")
HEAD = 4  # starts for each slot that are written down when a log has come to us


class Assembled(msgspec.Struct, frozen=True):
    worker: Worker
    console: Console
    gatehouse: Gatehouse
    table: RouteTable


def pieces(settings: Settings) -> tuple[RouteTable, Transport, Store]:
    """What a worker is made of, in a running event loop. Raises ConfigError with the mistakes in all of it."""
    mistakes: list[str] = []
    with noting(mistakes):
        table = route_table(settings)
        build_routes(settings, table, Gatehouse(settings.gate, real()), Metrics(settings.transport))
    with noting(mistakes):
        transport = make_transport(settings)
    with noting(mistakes):
        store = make_store(settings)
    with noting(mistakes):
        load_dialect(settings.dialect)
    if settings.api is not None:
        with noting(mistakes):
            AiohttpWire(settings.api)
    if mistakes:
        raise ConfigError(mistakes)
    return table, transport, store


def route_table(settings: Settings) -> RouteTable:
    """Load the handlers that are named. Raises ConfigError."""
    if not settings.handlers:
        raise ConfigError(['handlers: none are named; set handlers: ["your.module:router"]'])
    mistakes: list[str] = []
    routers = load_handlers(settings.handlers, mistakes)
    with noting(mistakes):
        table = RouteTable([found for _, router in routers for found in router.found()])
    if mistakes:
        raise ConfigError(mistakes)
    return table


def make_transport(settings: Settings) -> Transport:
    """The configured transport, not opened. Raises ConfigError."""
    section = getattr(settings, settings.transport, None)  # a transport of somebody else's has none
    transport: Transport = load_transport(settings.transport)(
        section, drain_cap=settings.dispatch.drain_cap, max_gap=settings.dispatch.max_gap
    )
    return transport


def make_store(settings: Settings) -> Store:
    """The configured store, not opened. Raises ConfigError where there is none: dead letters need a place."""
    return open_store(store_url(settings.store), lambda: store_url(settings.store))


@asynccontextmanager
async def assembled(
    settings: Settings,
    table: RouteTable,
    transport: Transport,
    store: Store | None,
    *,
    wire: Wire | None = None,
    states: Mapping[Router, Any] | None = None,
    ambient: Ambient | None = None,
) -> AsyncIterator[Assembled]:
    """A worker ready to `run`, with the lifespans of its routers entered for as long as the block lasts.

    `wire` carries API calls instead of aiohttp, `states` stand in for the lifespans, `ambient` for the machine's clock: for tests.
    """
    ambient = ambient or real()
    metrics = Metrics(settings.transport)
    gatehouse, pauses = Gatehouse(settings.gate, ambient, hears_calls=settings.api is not None), Pauses()
    routes = build_routes(settings, table, gatehouse, metrics)
    async with AsyncExitStack() as stack:
        client = None
        if settings.api is not None:
            gatehouse.gate("api")
            client = Client(settings.api, metrics, ambient, answered=lambda: gatehouse.answered("api"), wire=wire)
            stack.push_async_callback(client.close)
            gatehouse.knock = client.knock
        if states is None:
            states = await _enter_lifespans(stack, table)
        set_states(routes, table, states)
        resources = Resources(client, settings.api.settle if settings.api is not None else 0.0)
        settler = Settler(store, transport.source, Flood(settings.store.flood_after), metrics, ambient)
        journal = None if store is None else CrashJournal(store, transport.source, HEAD * settings.dispatch.slots)
        preflight = None if store is None or journal is None else Preflight(store, journal, routes.values())
        dispatcher = Dispatcher(
            settings.dispatch, gatehouse, pauses, preflight, resources, ambient, settler.finish, settler.release
        )
        decode, keep_done = load_dialect(settings.dialect), settings.store.keep_done
        intake = Intake(decode, table, routes, settings.dispatch, store, journal, keep_done, transport.source, metrics, ambient)
        backed = None
        if store is not None and preflight is not None:
            name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            record = ReplayRecord(store, metrics, ambient)
            replayer = Replayer(store, name, Redispatch(decode, table), intake.rework, record, dispatcher, ambient)
            flood_after = settings.store.flood_after
            controls = Controls(store, name, preflight.parking, flood_after, pauses, replayer, metrics, ambient)
            backed = Backed(store, controls, record, preflight.journal)
        worker = Worker(settings, transport, backed, intake, dispatcher, settler, gatehouse, pauses, metrics, ambient)
        yield Assembled(worker, Console(worker, gatehouse, table), gatehouse, table)


async def _enter_lifespans(stack: AsyncExitStack, table: RouteTable) -> dict[Router, Any]:
    states: dict[Router, Any] = {}
    for entry in table.entries:
        home = entry.found.home
        if home not in states and home.lifespan_of is not None:
            states[home] = await _entered(stack, home.lifespan_of)
    return states


async def _entered(stack: AsyncExitStack, lifespan: Lifespan) -> Any:
    """What a lifespan yields. Raises ConfigError, without the text of what it raised: that may hold how it logs in."""
    try:
        return await stack.enter_async_context(lifespan())
    except (Exception, SystemExit) as error:  # it is the bank's own: entering it can do anything
        log.debug("the lifespan failed", exc_info=error)
        place, name = place_of_error(error, place_of(lifespan)), type(error).__name__
        raise ConfigError([f"{place}the lifespan failed with {name}; its text and stack, with log.level: debug"]) from None
