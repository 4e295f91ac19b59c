"""The bank's own system, as far as the sample handlers need one. In memory, and strict about two things that a real one
is strict about as well: an unknown customer is an error, and a key that was used before repeats its answer instead of
its effect.
"""

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


class CoreBanking:
    def __init__(self) -> None:
        self.accounts: dict[str, str] = {}  # portfolio: currency
        self.messages: Counter[str] = Counter()  # customer: how many were sent
        self.orders: dict[str, Mapping[str, Any]] = {}  # by key
        self.payments: dict[str, Decimal] = {}  # by key
        self.verdicts: dict[str, str] = {}  # portfolio: how its suitability assessment stands
        self._paid: dict[str, Decimal] = {}  # portfolio: of the request that is open

    def open_account(self, portfolio: str, currency: str) -> None:
        self.accounts.setdefault(portfolio, currency)

    def notify(self, customer: str | None, text: str) -> None:
        """Send the customer a message. Raises LookupError for one that the bank does not have."""
        if customer is None:
            raise LookupError(f"no customer to tell: {text}")
        self.messages[customer] += 1

    def pay_up_to(self, portfolio: str, total: Decimal, *, key: str) -> Decimal:
        """Pay what is missing to `total`, and say how much that was: nothing if it was paid before."""
        if key not in self.payments:
            missing = max(Decimal(0), total - self._paid.get(portfolio, Decimal(0)))
            self._paid[portfolio] = self._paid.get(portfolio, Decimal(0)) + missing
            self.payments[key] = missing
        return self.payments[key]

    def close_request(self, portfolio: str) -> None:
        """The customer asks for nothing more; the next total counts from zero."""
        self._paid.pop(portfolio, None)

    def place_orders(self, orders: Mapping[str, Any], *, key: str) -> None:
        self.orders.setdefault(key, orders)
