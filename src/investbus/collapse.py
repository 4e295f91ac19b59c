"""Which queued events are handled as one: on a route with `collapse`, those of one key that stand next to each other.

Five hundred status updates of one portfolio that pile up during an outage say no more than the last one does, since the handler
reads the portfolio as it is now. Sharing the answers of GET calls between events instead would be wrong once handlers write:
an answer may be older than the first event's own write.
"""

from itertools import takewhile

import structlog

from investbus.work import Lane, Work

log = structlog.get_logger("investbus.collapse")


def collapse(lane: Lane) -> None:
    """Bind the head of the lane and those right behind it that may share its run; the last of them is the one that runs.

    A group is fixed at its first attempt: what arrives later has a run of its own, and no event dies for attempts that it took
    no part in. One that was alone at its first stays alone.
    """
    head = lane.queue[0]
    if head.group is not None or head.attempt > 1 or head.blocked:
        return
    group = list(takewhile(lambda work: _shares(head, work), lane.queue))
    if len(group) < 2:
        return
    head.group = group
    ids = [work.event.id for work in group[:-1]]
    log.info("collapsed", route=head.route.name, key=lane.key, into=group[-1].event.id, events=len(ids), event_ids=ids)


def _shares(head: Work, work: Work) -> bool:
    lease = work.delivery.lease
    same = work.route is head.route and work.replay is head.replay and work.verdict is None and not work.starts
    return same and not lease.closing and not work.done_before
