"""What a running worker says of itself: the answers behind the probes, the metrics and the status page."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

from investbus.errors import StoreError
from investbus.gatehouse import Gatehouse
from investbus.metrics import GateLook, Look
from investbus.ops import SILENT_FOR, render_metrics
from investbus.router import RouteTable
from investbus.store import OpenLetters
from investbus.version import __version__
from investbus.worker import Worker

LOOK_EVERY = 1.0  # seconds between looks at the loop's lag and, when something died, at the store
COUNT_EVERY = 5.0  # seconds between counts of the open dead letters
FORGET_EVERY = 3600.0  # seconds between clean-ups of the store


class Console:
    """Looks at one worker."""

    def __init__(self, worker: Worker, gatehouse: Gatehouse, table: RouteTable) -> None:
        self._worker = worker
        self._gatehouse = gatehouse
        self._table = table
        self._open: dict[str, OpenLetters] = {}
        self._counted_at = 0.0
        self._counted_letters = -1
        self._forgot_at = float("-inf")  # a job may end before its first hour does
        self._store_reason = ""
        self._lag = 0.0
        worker.metrics.look = self.look

    async def watch(self) -> None:
        """Keep what cannot be looked up at scrape time, for ever."""
        while True:
            worst, ends = 0.0, time.monotonic() + LOOK_EVERY
            while (asked := time.monotonic()) < ends:
                await asyncio.sleep(0.1)
                worst = max(worst, time.monotonic() - asked - 0.1)
            self._lag = worst
            await self._look_into_store()

    async def _look_into_store(self) -> None:
        worker, now = self._worker, time.monotonic()
        if worker.store is None or worker.store_reason:
            return
        if self._counted_letters == worker.settler.letters and now - self._counted_at < COUNT_EVERY:
            return
        letters = worker.settler.letters
        try:
            with worker.metrics.stored("control"):
                self._open = await worker.store.open_dead()
            self._store_reason, self._counted_at, self._counted_letters = "", now, letters
            if now - self._forgot_at >= FORGET_EVERY:
                self._forgot_at = now
                await self._forget()
        except StoreError as error:
            self._store_reason = str(error)

    async def _forget(self) -> None:
        store, keep, now = self._worker.store, self._worker.settings.store, time.time()
        assert store is not None
        done_before, dead_before = (max(0.0, now - kept) for kept in (keep.keep_done, keep.keep_dead))
        await store.forget(datetime.fromtimestamp(done_before, UTC), datetime.fromtimestamp(dead_before, UTC))

    @property
    def store_reason(self) -> str:
        """Why nothing can be stored now; "" if it can."""
        worker = self._worker
        settler = worker.settler
        requests = "" if worker.backed is None else worker.backed.controls.failing or worker.backed.record.failing
        failing = settler.failing or settler.done_failing or worker.intake.failing
        return worker.store_reason or failing or requests or self._store_reason

    def liveness(self) -> dict[str, str]:
        """Whether receive loop and dispatcher show signs of life. Waiting for somebody else is a sign of life."""
        worker = self._worker
        now = asyncio.get_running_loop().time()
        silent = now - worker.beat
        receiving = silent <= SILENT_FOR or bool(worker.waits_for) or worker.stopping
        hung = worker.dispatcher.hung
        beating = now - worker.dispatcher.slots.beat <= SILENT_FOR or not worker.dispatcher.slots.started
        return {
            "receive": "" if receiving else f"the receive loop has been silent for {silent:.0f} s",
            "dispatcher": "" if beating else "the dispatcher shows no sign of life",
            "handlers": "a handler goes on although its time-out has passed" if hung else "",
        }

    def readiness(self) -> dict[str, str]:
        worker = self._worker
        return {
            "handlers": "" if self._table.entries else "no handler is registered",
            "transport": worker.transport_reason,
            "store": self.store_reason,
            "worker": "draining" if worker.stopping else "",
        }

    def paused(self) -> frozenset[str]:
        """Why nothing is taken from the bus now."""
        worker = self._worker
        reasons = {
            "backlog": worker.dispatcher.backlog.full,
            "store": bool(worker.settler.failing or worker.intake.failing),
            "gap": worker.transport_state.gap_paused,
            "hold": worker.holding,
        }
        reasons |= dict.fromkeys((pause.reason for pause in worker.pauses.now), True)

        return frozenset(reason for reason, holds in reasons.items() if holds)

    def look(self) -> Look:
        worker, dispatcher = self._worker, self._worker.dispatcher
        return Look(
            transport=worker.transport_state,
            settles=worker.transport.counts,
            gates=tuple(GateLook(gate.name, gate.closed, gate.closures) for gate in list(self._gatehouse.gates.values())),
            lanes=dispatcher.lane_states(),
            paused=self.paused(),
            in_flight=dispatcher.running,
            backlog_events=dispatcher.waiting,
            backlog_bytes=dispatcher.backlog.bytes,
            oldest_unfinished=dispatcher.oldest(),
            last_received=worker.last_received,
            last_done=worker.settler.last_done,
            loop_lag=self._lag,
            dead_open=self._open,
        )

    def status(self) -> dict[str, Any]:
        worker, look = self._worker, self.look()
        routes = worker.metrics.routes
        return {
            "version": __version__,
            "transport": {
                "name": worker.transport.name,
                "connected": look.transport.connected,
                "joined": look.transport.joined,
                "reason": worker.transport_reason,
                "partitions": {name: {"lag": one.lag, "gap": one.gap} for name, one in look.transport.partitions.items()},
            },
            "guarantees": dict(worker.transport.guarantees),
            "routes": [
                {"name": entry.name, "kind": entry.kind, "handler": entry.handler, "outcomes": dict(routes[entry.name].outcomes)}
                for entry in self._table.entries
            ],
            "gates": [{"name": gate.name, "closed": gate.closed, "closures": gate.closures} for gate in look.gates],
            "pauses": self._pauses(),
            "counts": {
                "deliveries": worker.metrics.deliveries,
                "in_flight": look.in_flight,
                "backlog_events": look.backlog_events,
                "backlog_bytes": look.backlog_bytes,
                "undecodable": sum(worker.metrics.undecodable.values()),
                "dead_letters_open": sum(one.count for one in look.dead_open.values()),
            },
        }

    def _pauses(self) -> list[str]:
        """Why something waits; a pause of a single route with its name."""
        of_routes = [pause for pause in self._worker.pauses.now if pause.route]
        whole = self.paused() - {pause.reason for pause in of_routes}
        whole |= {pause.reason for pause in self._worker.pauses.now if not pause.route}
        return sorted([*whole, *(f"{pause.reason} (route {pause.route})" for pause in of_routes)])

    def exposition(self, accept: str) -> tuple[bytes, str]:
        return render_metrics(self._worker.metrics.registry, accept)
