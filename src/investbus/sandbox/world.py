"""The entities behind the pretend platform: portfolios, their owners, suitability profiles and optimizations.

A seed decides everything but the dates, which come from the clock. The REST API reads and patches these entities, and
the event stream changes them as it goes, so that an event and what is read after it agree. Two kinds of portfolio are
there for handlers to fail on, at fixed places so that even a small world has them: archived ones, and ones whose owner
the bank does not know.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from investbus.sandbox.ids import entity_id

Entity = dict[str, Any]

MOST_PORTFOLIOS = 10_000  # an endless stream must not fill the memory
MOST_OPTIMIZATIONS = 50_000
INSTRUMENTS = ("IE00B4L5Y983", "IE00B4ND3602", "LU0908500753", "BE0974293251", "US0378331005", "DE0007164600")
CURRENCIES = ("EUR", "EUR", "EUR", "USD", "GBP", "CHF")
MANAGERS = ("ROBO_ADVISOR_DISCRETIONARY", "ROBO_ADVISOR_ADVISORY", "USER_MANAGED")
FIRST_NAMES = ("Ada", "Bram", "Chiara", "Dries", "Elif", "Femke", "Goran", "Hanna", "Ilias", "Jonas")
LAST_NAMES = ("Maes", "Peeters", "Rossi", "Schmidt", "Dubois", "Novak", "Jansen", "Silva", "Weber", "Claes")


def utc_now() -> datetime:
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """As the REST API writes it; events have another style."""
    return moment.isoformat(timespec="microseconds")


class World:
    """`portfolios` entities, four of five of them long established, the fifth waiting for its first event.

    `computing` is the longest time, in seconds, for which an optimization cannot be read yet although its event is out.
    """

    def __init__(self, seed: int, portfolios: int = 50, *, clock: Callable[[], datetime] = utc_now, computing: float = 2.0) -> None:
        self.clock = clock
        self.portfolios: dict[str, Entity] = {}
        self.users: dict[str, Entity] = {}
        self.profiles: dict[str, Entity] = {}
        self.optimizations: dict[str, Entity] = {}
        self._ready: dict[str, datetime] = {}  # optimizations that are still being computed: until when
        self._computing = computing
        self._rng = Random(seed)
        self._author = entity_id("U", self._rng)
        for number in range(portfolios):
            portfolio = self.open_portfolio()
            if number % 5 != 4:
                self._establish(portfolio)

    def open_portfolio(self) -> Entity:
        """A new portfolio with a new owner, waiting for a policy."""
        rng = self._rng
        number = len(self.portfolios)
        currency = rng.choice(CURRENCIES)
        owner = self._add_user(external_id=None if number % 20 == 7 else f"customer-{number:05}")
        portfolio = self._entity("P") | {
            "external_id": f"account-{number:05}" if rng.random() < 0.8 else None,
            "status": "WAITING_FOR_POLICY",
            "money_type": "PAPER_MONEY" if number % 10 == 8 else "REAL_MONEY",
            "base_currency": currency,
            "owned_by_user_id": owner["id"],
            "archived": number % 20 == 3,
            "funded_since": None,
            "portfolio": {f"${currency}": Decimal(0)},
            "brokerage_account": None,
            "config": {
                "manager": rng.choices(MANAGERS, (5, 4, 1))[0],
                "manager_settings": {
                    "active": False,
                    "policy_id": None,
                    "goal_id": entity_id("L", rng),
                    "horizon_id": entity_id("H", rng),
                    "divest_amount": None,
                    "suitability_profile_id": None,
                    "optimization_cooldown_end": None,
                },
            },
        }
        self.portfolios[portfolio["id"]] = portfolio
        return portfolio

    def link_profile(self, portfolio: Entity) -> Entity:
        """A suitability profile for `portfolio`, its first assessment begun."""
        profile = self._entity("N") | {
            "owned_by_user_id": portfolio["owned_by_user_id"],
            "status": {"type": "IN_PROGRESS"},
            "assessments": [{"questionnaire_id": entity_id("M", self._rng), "status": {"type": "IN_PROGRESS"}}],
        }
        self.profiles[profile["id"]] = profile
        self.change_settings(portfolio, suitability_profile_id=profile["id"])
        return profile

    def assess(self, profile: Entity, status: str) -> None:
        """The profile and its assessment reach `status`."""
        assessment = profile["assessments"][0] | {"status": {"type": status}}
        self.change(profile, status={"type": status}, assessments=[assessment])

    def fund(self, portfolio: Entity) -> None:
        """Money has come and is invested: the portfolio is active."""
        rng = self._rng
        holdings: Entity = {isin: Decimal(rng.randint(1, 400)) for isin in rng.sample(INSTRUMENTS, 3)}
        holdings[f"${portfolio['base_currency']}"] = Decimal(rng.randrange(200_000, 5_000_000)) / 100
        self.change_settings(portfolio, active=True, policy_id=entity_id("Y", rng))
        self.change(portfolio, status="ACTIVE", portfolio=holdings, funded_since=timestamp(self.clock()))

    def add_optimization(self, portfolio: Entity, *, recommended: bool) -> Entity:
        """A finished optimization; one in four can be read only a little later."""
        rng = self._rng
        optimization = self._entity("O") | {
            "portfolio_id": portfolio["id"],
            "external_id": None,
            "status": "SUCCESS",
            "owner_choice": None,
            "portfolio_update": {"is_recommended": recommended, "orders": self._orders() if recommended else {}},
            "current_solution": {"risk": round(rng.uniform(0.02, 0.2), 4)},
            "optimal_solution": {"risk": round(rng.uniform(0.02, 0.2), 4)},
        }
        self.optimizations[optimization["id"]] = optimization
        if rng.random() < 0.25:
            self._ready[optimization["id"]] = self.clock() + timedelta(seconds=rng.uniform(0.5, 1.0) * self._computing)
        if len(self.optimizations) > MOST_OPTIMIZATIONS:
            oldest = next(iter(self.optimizations))
            self._ready.pop(oldest, None)
            del self.optimizations[oldest]
        return optimization

    def computing(self, optimization: Entity) -> bool:
        """True while the optimization cannot be read yet."""
        return (ready := self._ready.get(optimization["id"])) is not None and self.clock() < ready

    def change(self, entity: Entity, **fields: Any) -> None:
        """Set `fields`: every change is a new version."""
        entity |= fields
        entity |= {"version": entity["version"] + 1, "version_datetime": timestamp(self.clock())}

    def change_settings(self, portfolio: Entity, **settings: Any) -> None:
        """Set fields of the manager's settings."""
        config = portfolio["config"]
        self.change(portfolio, config=config | {"manager_settings": config["manager_settings"] | settings})

    def _establish(self, portfolio: Entity) -> None:
        portfolio["version_datetime"] = portfolio["creation_datetime"] = timestamp(
            self.clock() - timedelta(seconds=self._rng.randrange(86_400, 63_072_000))
        )
        self.assess(self.link_profile(portfolio), "ACCEPTED")
        self.fund(portfolio)

    def _add_user(self, *, external_id: str | None) -> Entity:
        first, last = self._rng.choice(FIRST_NAMES), self._rng.choice(LAST_NAMES)
        user = self._entity("U") | {
            "external_id": external_id,
            "status": "ACTIVE",
            "first_name": first,
            "last_name": last,
            "email": f"{first}.{last}@example.com".lower(),
            "counter_account": {"iban": f"BE{self._rng.randrange(10**14):014}"},
        }
        self.users[user["id"]] = user
        return user

    def _orders(self) -> Mapping[str, Entity]:
        rng = self._rng
        return {
            isin: {
                "quantity_type": "UNITS",
                "quantity": (shares := rng.choice((-1, 1)) * rng.randint(1, 50)),
                "shares": shares,
                "expected_share_price": Decimal(rng.randrange(1_000, 30_000)) / 100,
                "expected_transaction_cost": Decimal(rng.randrange(50, 900)) / 100,
            }
            for isin in rng.sample(INSTRUMENTS, 2)
        }

    def _entity(self, letter: str) -> Entity:
        now = timestamp(self.clock())
        return {
            "id": entity_id(letter, self._rng),
            "creation_datetime": now,
            "version": 1,
            "version_datetime": now,
            "version_authored_by_user_id": self._author,
            "deleted": False,
        }
