"""The platform's events: names, models, what orders them, and which call tells more.

Canonical is the name that travels, `subject.action` as in the documentation's JSON examples; where its prose, an older page
or British spelling has another name, that is an alias. Handlers may be registered under either, and either may arrive.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import BaseModel

from investbus.catalogue import drafts, models

KEY_FIELDS = ("portfolio_id", "profile_id", "id")  # a portfolio's optimizations are ordered with the portfolio itself


class Detail(msgspec.Struct, frozen=True):
    """The GET call for the entity that an event is about: a path, and for each id in it the field of `data` that has it."""

    template: str
    fields: Mapping[str, str]


class Known(msgspec.Struct, frozen=True, eq=False):
    """One event of the catalogue. `key` is the field of `data` that orders it; a `draft` is not in today's documentation."""

    name: str
    model: type[BaseModel]
    key: str = "id"
    detail: Detail | None = None
    aliases: tuple[str, ...] = ()
    draft: bool = False
    changes: bool = False  # the event says that the very entity of its detail call has a new version


# The documentation writes paths both with and without the last slash. One spelling, with: redirects are never followed.
PORTFOLIO = Detail("/portfolios/{id}/", {"id": "id"})
OPTIMIZATION = Detail("/portfolios/{portfolio_id}/optimizations/{id}/", {"portfolio_id": "portfolio_id", "id": "id"})
PROFILE = "/suitability-profiler/profiles/{id}/"
PROFILE_OF_PORTFOLIO = Detail(PROFILE, {"id": "suitability_profile_id"})
PROFILE_OF_ASSESSMENT = Detail(PROFILE, {"id": "profile_id"})
USER = Detail("/users/{id}/", {"id": "id"})


def _portfolio(
    action: str, model: type[BaseModel], *aliases: str, detail: Detail = PORTFOLIO, draft: bool = False, changes: bool = False
) -> Known:
    return Known(f"portfolios.{action}", model, "id", detail, (f"portfolio.{action}", *aliases), draft, changes)


def _optimization(action: str, model: type[BaseModel]) -> Known:
    return Known(f"optimizations.{action}", model, "portfolio_id", OPTIMIZATION, (f"optimisations.{action}",), changes=True)


def _draft(name: str, model: type[BaseModel], detail: Detail | None = None) -> Known:
    return Known(name, model, detail=detail, draft=True)


_ALL = (
    _portfolio("creation", models.PortfolioCreation, changes=True),
    _portfolio("status-update", models.PortfolioStatusUpdate, changes=True),
    _portfolio(
        "divest-amount-update",
        models.DivestAmountUpdate,
        "portfolios.withdrawal",
        "portfolio.withdrawal",
        "portfolio.withdrawal-request",
        changes=True,
    ),
    _portfolio("cash-available-for-withdrawal", models.CashAvailableForWithdrawal),
    _portfolio("profile-created-for-portfolio", models.ProfileCreatedForPortfolio, detail=PROFILE_OF_PORTFOLIO),
    _portfolio("profile-updated-for-portfolio", models.ProfileUpdatedForPortfolio, detail=PROFILE_OF_PORTFOLIO),
    _optimization("status-update", models.OptimizationStatusUpdate),
    _optimization("owner-choice-update", models.OptimizationOwnerChoiceUpdate),
    Known(
        "assessments.assessment-status-update",
        models.AssessmentStatusUpdate,
        "profile_id",
        PROFILE_OF_ASSESSMENT,
        ("profiles.assessment-status-update",),
    ),
    _portfolio("funding", drafts.PortfolioFunding, draft=True),
    _portfolio("removal", drafts.PortfolioRemoval, draft=True),
    _draft("users.creation", drafts.UserCreation, USER),
    _draft("users.status-update", drafts.UserStatusUpdate, USER),
    _draft("users.account-number-update", drafts.UserAccountNumberUpdate, USER),
    _draft("profiles.result-update", drafts.ProfileResultUpdate),
    _draft("profiles.assessment-result-update", drafts.ProfileAssessmentResultUpdate),
    _draft("reports.status-update", drafts.ReportStatusUpdate),
)
_BY_NAME = {name: event for event in _ALL for name in (event.name, *event.aliases)}


def all_known() -> tuple[Known, ...]:
    """Every event of the catalogue: those of today's documentation, then the drafts."""
    return _ALL


def known(name: str) -> Known | None:
    """What the catalogue says about `name`, an alias or not."""
    return _BY_NAME.get(name)


def canonical(name: str) -> str:
    """The name that travels, for any name of an event; a name that the catalogue does not know is its own."""
    event = _BY_NAME.get(name)
    return name if event is None else event.name


def ordering_key(data: Mapping[str, Any], event_id: str) -> str:
    """What orders an event: the portfolio, else the profile, else the entity that `data` names, else only the event itself.

    One rule for all events, so that those which the catalogue does not know yet are ordered with the others.
    """
    likely = data.get("portfolio_id") or data.get("profile_id") or data.get("id")
    if type(likely) is str and likely:
        return likely  # the rule below, for what usually comes
    for field in KEY_FIELDS:
        value = data.get(field)
        if isinstance(value, str) and value:
            return value
    return event_id
