"""The same seed is the same world, and even a small one has what handlers are to fail on."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from investbus.sandbox import World
from investbus.sandbox.core_banking import CoreBanking
from investbus.sandbox.ids import entity_id

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)


def world(seed: int, portfolios: int = 30) -> World:
    return World(seed, portfolios, clock=lambda: NOW)


def test_a_seed_decides_everything() -> None:
    assert vars(world(3)).keys() == vars(world(4)).keys()
    for kind in ("portfolios", "users", "profiles"):
        assert getattr(world(3), kind) == getattr(world(3), kind) != getattr(world(4), kind)


@given(st.randoms(use_true_random=False), st.sampled_from("PUNOT"))
def test_ids_are_a_letter_and_26_crockford_characters(rng: Random, letter: str) -> None:
    assert re.fullmatch(rf"{letter}[0-7][0-9A-HJKMNP-TV-Z]{{25}}", entity_id(letter, rng))


def test_references_lead_somewhere_and_newcomers_wait() -> None:
    some = world(5)
    assert {each["status"] for each in some.portfolios.values()} == {"ACTIVE", "WAITING_FOR_POLICY"}
    for portfolio in some.portfolios.values():
        assert portfolio["owned_by_user_id"] in some.users
        profile_id = portfolio["config"]["manager_settings"]["suitability_profile_id"]
        assert (profile_id in some.profiles) is (portfolio["status"] == "ACTIVE")


def test_a_small_world_has_an_archived_portfolio_and_an_unknown_customer() -> None:
    some = world(6, portfolios=10)
    assert sum(each["archived"] for each in some.portfolios.values()) == 1
    assert [each["external_id"] for each in some.users.values()].count(None) == 1
    assert [each["money_type"] for each in some.portfolios.values()].count("PAPER_MONEY") == 1


def test_every_change_is_a_new_version() -> None:
    some = world(8)
    portfolio = next(iter(some.portfolios.values()))
    version, manager = portfolio["version"], portfolio["config"]["manager"]
    some.change_settings(portfolio, divest_amount=5)
    assert (portfolio["version"], portfolio["config"]["manager"]) == (version + 1, manager)
    assert portfolio["config"]["manager_settings"]["divest_amount"] == 5


def test_the_bank_pays_the_running_total_and_no_key_twice() -> None:
    bank = CoreBanking()
    requests = [("100", "a"), ("150", "b"), ("150", "c"), ("150", "b")]
    assert [bank.pay_up_to("P1", Decimal(total), key=key) for total, key in requests] == [100, 50, 0, 50]
    bank.close_request("P1")
    assert bank.pay_up_to("P1", Decimal(30), key="d") == 30
