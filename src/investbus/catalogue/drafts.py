"""Data models of events that earlier drafts of the platform's documentation describe and today's page does not.

They are here so that a bank which receives one can handle it with a type. Some carry personal data, which is kept out of
`repr`.
"""

from decimal import Decimal

from pydantic import Field, StrictInt, StrictStr

from investbus.catalogue.models import Data


class PortfolioFunding(Data):
    """Money arrived on a portfolio."""

    id: str
    value: Decimal | None = None
    currency: str | None = None


class PortfolioRemoval(Data):
    """A portfolio was removed (the platform keeps it, marked as deleted)."""

    id: str


class UserDetails(Data):
    """Personal data of a user."""

    email: str | None = Field(None, repr=False)
    phone: str | None = Field(None, repr=False)
    first_name: str | None = Field(None, repr=False)
    last_name: str | None = Field(None, repr=False)


class UserCreation(Data):
    """A user was created."""

    id: str
    user_data: UserDetails | None = Field(None, repr=False)


class UserStatusUpdate(Data):
    """The status of a user changed, for example to WAITING_FOR_SIGNATURE."""

    id: str
    value: str


class UserAccountNumberUpdate(Data):
    """The account number of a user changed; `value` is an IBAN."""

    id: str
    value: str = Field(repr=False)


class ProfileResultUpdate(Data):
    """All assessments of a profile are complete."""

    id: str
    linked_portfolio_id: str | None = None


class ProfileAssessmentResultUpdate(Data):
    """One assessment of a profile has a result."""

    id: str
    questionnaire_id: StrictStr | StrictInt | None = None


class ReportStatusUpdate(Data):
    """A report is READY or has FAILED; `output_format` is WEB, PDF or VIDEO."""

    id: str
    value: str
    output_format: str | None = None
