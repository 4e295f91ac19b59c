"""The catalogue against the platform's own examples, and against what a careless producer may send."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from investbus import catalogue
from investbus.catalogue import (
    FULL,
    AssessmentStatusUpdate,
    DivestAmountUpdate,
    Known,
    PortfolioStatus,
    PortfolioStatusUpdate,
    UserAccountNumberUpdate,
    UserCreation,
    all_known,
    canonical,
    known,
    ordering_key,
)
from investbus.dialects.investsuite import decode
from investbus.event import parse_created

EXAMPLES = sorted((Path(__file__).parent / "fixtures" / "investsuite").glob("*.json"))
KEYS = {"assessments": "N1234..."}  # of the examples; all others are about "a-portfolio-id"
DRAFTS = {
    "portfolios.funding",
    "portfolios.removal",
    "users.creation",
    "users.status-update",
    "users.account-number-update",
    "profiles.result-update",
    "profiles.assessment-result-update",
    "reports.status-update",
}


def divest(amount: str) -> DivestAmountUpdate:
    """The model as the worker makes it: by the dialect from bytes, digits kept."""
    body = f'{{"id":"1","version":"1","subject":"s","action":"a","data":{{"id":"P","currency":"EUR","divest_amount":{amount}}}}}'
    return DivestAmountUpdate.model_validate(decode(body.encode(), {})[0].data)


# ---- the examples


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fits_its_model_and_keeps_every_field(path: Path) -> None:
    (envelope,) = decode(path.read_bytes(), {})
    event = known(envelope.name)
    assert event is not None
    assert envelope.name == path.stem == event.name
    model = event.model.model_validate(envelope.data)
    assert set(envelope.data) <= set(model.model_dump())
    assert not model.model_extra, "a documented field that the model does not name"
    assert ordering_key(envelope.data, envelope.id) == KEYS.get(envelope.subject, "a-portfolio-id")
    assert parse_created(envelope.created) is None
    assert envelope.created == "-1000000000-01-01T00:00:00Z"


def test_every_documented_event_has_its_example() -> None:
    assert {path.stem for path in EXAMPLES} == {event.name for event in all_known() if not event.draft}


def test_the_last_of_a_doubled_field_counts() -> None:
    (path,) = (path for path in EXAMPLES if path.stem == "portfolios.profile-created-for-portfolio")
    assert path.read_text().count('"owned_by_user_id"') == 2
    assert decode(path.read_bytes(), {})[0].data["owned_by_user_id"] == "a-user-id"


# ---- amounts


@pytest.mark.parametrize("sent", ["1e100", "1E+100", "1" + "0" * 100, "1" + "0" * 100 + ".00", '"1e100"', "10e99"])
def test_full_is_recognised_however_it_is_written(sent: str) -> None:
    assert divest(sent).divest_amount == FULL


def test_full_is_the_exact_number() -> None:
    assert Decimal("1e100") == FULL == 10**100
    assert divest("1" + "0" * 99 + "1").divest_amount != FULL


@pytest.mark.parametrize("sent", ["0.1000000000000000055511151231257827", "150.00", "123456789012345678901234567890.12"])
def test_amounts_keep_their_digits(sent: str) -> None:
    assert str(divest(sent).divest_amount) == sent


@pytest.mark.parametrize(
    ("sent", "expected"), [("null", None), ("0", Decimal(0)), ("150", Decimal(150)), ('"12.5"', Decimal("12.5"))]
)
def test_an_amount_is_a_decimal_or_nothing(sent: str, expected: Decimal | None) -> None:
    amount = divest(sent).divest_amount
    assert amount == expected
    assert amount is None or type(amount) is Decimal


@pytest.mark.parametrize("sent", ['"NaN"', '"Infinity"', "true", '"a lot"', "[1]"])
def test_what_is_no_amount_is_refused_without_repeating_it(sent: str) -> None:
    with pytest.raises(ValidationError) as caught:
        divest(sent)
    assert "input_value" not in str(caught.value)


# ---- lenience


def test_a_known_member_equals_its_word_and_an_unknown_one_is_kept() -> None:
    known_member = PortfolioStatusUpdate.model_validate({"id": "P", "value": "ACTIVE"})
    unknown_member = PortfolioStatusUpdate.model_validate({"id": "P", "value": "FROZEN"})
    assert known_member.value is PortfolioStatus.ACTIVE
    assert known_member.value == "ACTIVE"
    assert unknown_member.value == "FROZEN"


def test_unknown_fields_are_kept_exactly() -> None:
    model = PortfolioStatusUpdate.model_validate({"id": "P", "value": "ACTIVE", "fee": Decimal("0.10"), "model_dump": 1})
    assert model.model_extra == {"fee": Decimal("0.10"), "model_dump": 1}
    assert str(model.model_dump()["fee"]) == "0.10"


def test_models_are_frozen() -> None:
    model = PortfolioStatusUpdate(id="P", value="ACTIVE")
    with pytest.raises(ValidationError, match="frozen"):
        model.id = "Q"  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-11-21T09:01:02Z", datetime(2026, 11, 21, 9, 1, 2, tzinfo=UTC)),
        ("2026-11-21T09:01:02", datetime(2026, 11, 21, 9, 1, 2, tzinfo=UTC)),
        ("-1000000000-01-01T00:00:00Z", "-1000000000-01-01T00:00:00Z"),
        ("soon", "soon"),
        ("", ""),
        (Decimal("1e999999"), Decimal("1e999999")),
        ({"seconds": 1}, {"seconds": 1}),
        (None, None),
    ],
)
def test_accepted_datetime_is_a_time_or_kept_as_it_came(sent: Any, kept: Any) -> None:
    model = AssessmentStatusUpdate.model_validate({"profile_id": "N", "value": "ACCEPTED", "accepted_datetime": sent})
    assert model.accepted_datetime == kept


@pytest.mark.parametrize("sent", ["M01", 17, 10**4000, None])
def test_questionnaire_id_is_a_string_or_an_integer(sent: Any) -> None:
    assert (
        AssessmentStatusUpdate.model_validate({"profile_id": "N", "value": "X", "questionnaire_id": sent}).questionnaire_id == sent
    )


@pytest.mark.parametrize("sent", [Decimal("1e999999"), Decimal(17), True, 1.0])
def test_questionnaire_id_never_makes_an_integer_of_a_decimal(sent: Any) -> None:
    with pytest.raises(ValidationError):
        AssessmentStatusUpdate.model_validate({"profile_id": "N", "value": "X", "questionnaire_id": sent})


def test_personal_data_is_not_in_repr() -> None:
    details = {"email": "ada@example.org", "phone": "0123", "first_name": "Ada", "last_name": "Lovelace"}
    shown = repr(UserCreation.model_validate({"id": "U1", "user_data": details}))
    shown += repr(UserCreation.model_validate({"id": "U1", "user_data": details}).user_data)
    shown += repr(UserAccountNumberUpdate.model_validate({"id": "U1", "value": "BE71096123456769"}))
    assert "U1" in shown
    assert not any(secret in shown for secret in (*details.values(), "BE71096123456769"))


@pytest.mark.parametrize("event", all_known(), ids=lambda event: event.name)
def test_only_what_an_event_is_useless_without_is_required(event: Known) -> None:
    needed = {event.key, *(event.detail.fields.values() if event.detail else ())}
    required = {name for name, field in event.model.model_fields.items() if field.is_required()}
    assert needed <= required
    assert required - needed <= {"value", "currency", "is_recommended", "profile_id"}


# ---- names


def test_an_event_has_one_canonical_name_and_no_name_is_used_twice() -> None:
    names = list(chain.from_iterable((event.name, *event.aliases) for event in all_known()))
    assert len(names) == len(set(names))
    for event in all_known():
        assert {canonical(name) for name in (event.name, *event.aliases)} == {event.name}
        assert all(known(name) is event for name in (event.name, *event.aliases))
        assert event.name.count(".") == 1


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("portfolios.withdrawal", "portfolios.divest-amount-update"),
        ("portfolio.withdrawal", "portfolios.divest-amount-update"),
        ("portfolio.withdrawal-request", "portfolios.divest-amount-update"),
        ("profiles.assessment-status-update", "assessments.assessment-status-update"),
        ("optimisations.status-update", "optimizations.status-update"),
        ("optimisations.owner-choice-update", "optimizations.owner-choice-update"),
        ("portfolio.creation", "portfolios.creation"),
        ("portfolio.status-update", "portfolios.status-update"),
        ("invoices.creation", "invoices.creation"),
    ],
)
def test_canonical(alias: str, name: str) -> None:
    assert canonical(alias) == name
    assert canonical(name) == name


def test_every_portfolios_event_may_be_called_by_the_singular() -> None:
    names = [event.name for event in all_known() if event.name.startswith("portfolios.")]
    assert len(names) == 8
    assert [canonical(name.replace("portfolios.", "portfolio.")) for name in names] == names


def test_what_the_catalogue_does_not_know() -> None:
    assert known("invoices.creation") is None


def test_drafts_are_marked() -> None:
    assert {event.name for event in all_known() if event.draft} == DRAFTS


def test_every_model_of_the_table_can_be_imported_by_name() -> None:
    for event in all_known():
        assert getattr(catalogue, event.model.__name__) is event.model
        assert issubclass(event.model, BaseModel)


# ---- order and detail calls


@pytest.mark.parametrize("event", all_known(), ids=lambda event: event.name)
def test_the_ordering_rule_finds_the_key_of_every_event(event: Known) -> None:
    data = {name: f"the {name}" for name in event.model.model_fields}
    assert ordering_key(data, "the event") == f"the {event.key}"


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"portfolio_id": "P", "profile_id": "N", "id": "O"}, "P"),
        ({"profile_id": "N", "id": "A"}, "N"),
        ({"id": "P"}, "P"),
        ({"portfolio_id": "", "profile_id": None, "id": "P"}, "P"),
        ({"portfolio_id": 7, "id": ["P"]}, "event"),
        ({}, "event"),
    ],
)
def test_ordering_key(data: dict[str, Any], key: str) -> None:
    assert ordering_key(data, "event") == key


@pytest.mark.parametrize(
    ("name", "template", "fields"),
    [
        ("portfolios.creation", "/portfolios/{id}/", {"id": "id"}),
        ("portfolios.withdrawal", "/portfolios/{id}/", {"id": "id"}),
        ("portfolios.funding", "/portfolios/{id}/", {"id": "id"}),
        (
            "optimizations.status-update",
            "/portfolios/{portfolio_id}/optimizations/{id}/",
            {"portfolio_id": "portfolio_id", "id": "id"},
        ),
        (
            "portfolios.profile-updated-for-portfolio",
            "/suitability-profiler/profiles/{id}/",
            {"id": "suitability_profile_id"},
        ),
        ("assessments.assessment-status-update", "/suitability-profiler/profiles/{id}/", {"id": "profile_id"}),
        ("users.creation", "/users/{id}/", {"id": "id"}),
    ],
)
def test_detail_call(name: str, template: str, fields: dict[str, str]) -> None:
    event = known(name)
    assert event is not None
    assert event.detail is not None
    assert (event.detail.template, event.detail.fields) == (template, fields)


def test_detail_calls_name_fields_that_exist() -> None:
    without = {event.name for event in all_known() if event.detail is None}
    assert without == {"profiles.result-update", "profiles.assessment-result-update", "reports.status-update"}
    for event in all_known():
        if event.detail is not None:
            ids = {name for _, name, _, _ in Formatter().parse(event.detail.template) if name}
            assert ids == set(event.detail.fields)
            assert set(event.detail.fields.values()) <= set(event.model.model_fields)
            assert event.detail.template.endswith("/")
