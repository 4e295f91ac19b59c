"""Data models of the platform's events, as lenient as an at-least-once consumer has to be.

The documentation shows one example per event and hardly says what may be missing, so only what an event is useless without is
required. Unknown fields and unknown members of an enumeration are kept: a word that the platform adds must not turn a good
event into a dead letter. Amounts are `Decimal` and stay exact, ids are strings, and a refusal never repeats a value.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StrictInt, StrictStr

from investbus.event import parse_created

# As `divest_amount`: everything. Compare with ==. Never write Decimal(1e100): made from a float it is another number.
FULL = Decimal("1e100")


class PortfolioStatus(StrEnum):
    WAITING_FOR_ACCOUNT = "WAITING_FOR_ACCOUNT"
    WAITING_FOR_POLICY = "WAITING_FOR_POLICY"
    WAITING_FOR_FUNDS = "WAITING_FOR_FUNDS"
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"


class OptimizationStatus(StrEnum):
    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    INFEASIBLE = "INFEASIBLE"
    NOT_OPTIMIZED = "NOT_OPTIMIZED"


class OwnerChoice(StrEnum):
    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    REOPTIMIZE = "REOPTIMIZE"
    IGNORED = "IGNORED"


class AssessmentStatus(StrEnum):
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    ACCEPTED = "ACCEPTED"
    COOLDOWN = "COOLDOWN"
    EXPIRED = "EXPIRED"


OPEN = Field(union_mode="left_to_right")  # the member if it is known, else the word as it came


def _time_or_text(value: Any) -> Any:
    return value if not isinstance(value, str) else parse_created(value) or value


class Data(BaseModel):
    """What all of them share."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)


class PortfolioData(Data):
    """`id` is the portfolio's; `external_id` is the bank's own id of it, if it has told the platform one."""

    id: str
    external_id: str | None = None
    owned_by_user_id: str | None = None
    owned_by_external_user_id: str | None = None


class PortfolioCreation(PortfolioData):
    """A portfolio was created. Whether its money is real only the portfolio itself says."""


class PortfolioStatusUpdate(PortfolioData):
    """The status of a portfolio changed to `value`."""

    value: Annotated[PortfolioStatus | str, OPEN]


class DivestAmountUpdate(PortfolioData):
    """The total that the owner wants to withdraw, not an increment. `FULL` is everything, None or 0 nothing any more."""

    divest_amount: Decimal | None = None
    currency: str


class CashAvailableForWithdrawal(PortfolioData):
    """There is cash for the withdrawal that was asked for. How much was asked for only the portfolio says."""

    currency: str


class ProfileCreatedForPortfolio(PortfolioData):
    """A suitability profile was created for a portfolio."""

    suitability_profile_id: str


class ProfileUpdatedForPortfolio(PortfolioData):
    """The suitability profile of a portfolio changed."""

    suitability_profile_id: str


class OptimizationData(Data):
    """`id` is the optimization's. Whose `external_id` it is, the documentation does not say."""

    id: str
    portfolio_id: str
    external_id: str | None = None


class OptimizationStatusUpdate(OptimizationData):
    """An optimization ended. Only one that `is_recommended` may be executed or proposed."""

    is_recommended: bool
    value: Annotated[OptimizationStatus | str, OPEN]


class OptimizationOwnerChoiceUpdate(OptimizationData):
    """The owner of an advised portfolio decided; only ACCEPT may be executed."""

    value: Annotated[OwnerChoice | str, OPEN]


class AssessmentStatusUpdate(Data):
    """An assessment within a suitability profile changed. Which portfolios use that profile only a query says."""

    profile_id: str
    questionnaire_id: StrictStr | StrictInt | None = None  # "internal id" is all that is known of it
    value: Annotated[AssessmentStatus | str, OPEN]
    # Sent with ACCEPTED only. Without a zone it is UTC; what is no time is kept as it came.
    accepted_datetime: Annotated[datetime | str | None, PlainValidator(_time_or_text)] = None
