"""What goes wrong with the platform during a demo, in this order: slow answers, a revoked token, an outage.

Told as it happens. None of it may cost an event: that is what the plan, which knows nothing of this, is held against at the end.
"""

import asyncio
from collections.abc import Callable
from math import inf

from investbus.gate import Gate
from investbus.sandbox import Fault, Platform

LOOK = 0.05
SLOW = Fault(method="GET", path="/portfolios/*/", delay=1.5, times=3)
OUTAGE_AT_MOST = 5.0  # seconds; with few events nobody may notice an outage
AFTER_CLOSING = 1.5


async def trouble(platform: Platform, gate: Gate, share: Callable[[], float], say: Callable[[str], None]) -> None:
    """`share` says how much of the stream is out, from 0 to 1."""
    await _until(lambda: share() >= 0.15)
    platform.faults.add(SLOW)
    say(f"the platform takes {SLOW.delay:g} s for {SLOW.times} answers: other keys do not wait for them")
    await _until(lambda: share() >= 0.3)
    platform.sessions.revoke("access")
    say("the platform revokes the access token: the worker logs in again, no event fails")
    await _until(lambda: share() >= 0.5)
    platform.faults.down = True
    say("the platform is down: it answers every call with 503")
    await _until(lambda: gate.closed, OUTAGE_AT_MOST)
    if gate.closed:
        say("the worker closes its gate: events that need the platform wait, and no attempt is spent")
        await asyncio.sleep(AFTER_CLOSING)
    platform.faults.down = False
    say("the platform is up again")
    await _until(lambda: not gate.closed)
    say("the gate is open")


async def _until(holds: Callable[[], bool], limit: float = inf) -> None:
    """Wait until it holds, or for `limit` seconds."""
    clock = asyncio.get_running_loop().time
    ends = clock() + limit
    while clock() < ends:
        if holds():
            return
        await asyncio.sleep(LOOK)
