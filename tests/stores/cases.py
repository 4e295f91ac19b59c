"""What every store must do. A store's own test module subclasses `StoreCases` and says with `fresh` how to make one."""

from tests.stores.forget_cases import ForgetCases
from tests.stores.mailbox_cases import MailboxCases
from tests.stores.opened import Fresh
from tests.stores.record_cases import RecordCases
from tests.stores.replay_cases import ReplayCases
from tests.stores.replay_histories import ReplayHistories

__all__ = ["Fresh", "StoreCases"]


class StoreCases(RecordCases, ForgetCases, MailboxCases, ReplayCases, ReplayHistories):
    """All of it."""
