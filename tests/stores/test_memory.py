"""The store of handlers' tests follows the rules of every store towards operators; it promises nothing beyond its process."""

import pytest

from investbus.stores.memory import MemoryStore
from tests.stores.mailbox_cases import MailboxCases
from tests.stores.opened import Fresh
from tests.stores.replay_cases import ReplayCases


class TestMemory(MailboxCases, ReplayCases):
    @pytest.fixture
    def fresh(self) -> Fresh:
        store = MemoryStore()
        return lambda: store
