"""The fixtures of every suite for stores, and what they share."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, settings

from investbus.store import Store

LONG_AGO = datetime(1970, 1, 2, tzinfo=UTC)
FAR_OFF = datetime(2999, 1, 1, tzinfo=UTC)

Fresh = Callable[[], Store]

# All examples of a test share one store, each under names of its own; and each store that is tested runs the same test.
on_one_store = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
)


class Opened:
    """The fixtures of every suite for stores."""

    @pytest.fixture
    def fresh(self) -> Fresh:
        """Makes stores that are not open yet and share their data, which is empty at first."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, fresh: Fresh) -> AsyncIterator[Store]:
        store = fresh()
        await store.open()
        yield store
        await store.close()
