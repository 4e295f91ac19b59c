"""Ids come from the bus: whoever can write to the topic must not choose what is called with the worker's token."""

import asyncio
import enum
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from investbus.errors import Reject
from investbus.platform.urls import build, fill_query
from tests.platform.raw import Raw
from tests.platform.rig import OLD, Rig, virtual

BASE = "https://api.example.com"
TEMPLATE = "/portfolios/{portfolio_id}/optimizations/{id}/"

HOSTILE: list[Any] = [
    "..", ".", "...", "%2e%2e", "%2E%2E", "..%2f", "a/b", "../../users", "a/../b", "/", "\\", "..\\..",
    "?x", "a?role=admin", "a&b=c", "#", "a#b", "a;b", "a b", " ", "a ", "\ta", "a\r\nX-Evil: 1", "a\n", "\n", "a\x00", "\x7f",
    "@evil.invalid", "a:b", "//evil.invalid/", "http://evil.invalid/", "a'b", "a' or 'x' eq 'x", "a\"b", "{id}", "{0}",
    "%", "%00", "a+b", "é", "\uff41", "٣", "a\u200b", "\u202e", "\ud800", "😀", "x" * 65, "x" * 100_000, "",
    None, 17, 1.5, True, b"P1", ["P1"], {"id": "P1"}, object(),
]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
@virtual
async def test_a_hostile_id_is_rejected_before_anything_is_sent(hostile: Any) -> None:
    rig = Rig()
    calls: list[Callable[[], Any]] = [
        lambda: rig.api.portfolio(hostile),
        lambda: rig.api.profile(hostile),
        lambda: rig.api.optimization("P1", hostile),
        lambda: rig.api.optimization(hostile, "O1"),
        lambda: rig.api.get("/things/{id}/", id=hostile),
        lambda: rig.api.post("/things/{id}/", json={}, id=hostile),
        lambda: rig.api.patch("/things/{id}/", json={}, id=hostile),
        lambda: rig.api.delete("/things/{id}/", id=hostile),
        lambda: anext(rig.api.find("portfolios", "policy_id eq {id}", id=hostile)),
    ]
    for call in calls:
        with pytest.raises(Reject) as caught:
            await call()
        assert str(caught.value) in (
            'id "id" is not of the form [A-Za-z0-9_-]{1,64}',
            'id "portfolio_id" is not of the form [A-Za-z0-9_-]{1,64}',
        ), "the value is not repeated"
    assert rig.script.calls == rig.script.logins == []


class Plain(str):
    """A text that formats as something else, as members of some enums do."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return "../../users"

    def __str__(self) -> str:
        return "../../users"


class Mixed(str, enum.Enum):  # noqa: UP042 - StrEnum formats as its value, and this is about one that does not
    ONE = "P1"


@pytest.mark.parametrize("value", [Plain("P1"), Mixed.ONE])
def test_what_was_checked_is_what_goes_in(value: str) -> None:
    assert build(BASE, "/things/{id}/", {"id": value}) == f"{BASE}/things/P1/"
    assert fill_query("a eq {id}", {"id": value}) == "a eq 'P1'"


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://h", "https://h/portfolios/P_1-x/optimizations/O1/"),
        ("https://h/", "https://h/portfolios/P_1-x/optimizations/O1/"),
        ("https://h:8443/bank/v1", "https://h:8443/bank/v1/portfolios/P_1-x/optimizations/O1/"),
        ("https://h/bank/v1/", "https://h/bank/v1/portfolios/P_1-x/optimizations/O1/"),
    ],
)
def test_a_base_may_have_a_path(base: str, url: str) -> None:
    assert build(base, TEMPLATE, {"portfolio_id": "P_1-x", "id": "O1"}) == url


def test_the_longest_id_goes_in() -> None:
    assert build(BASE, "/things/{id}/", {"id": "x" * 64}).endswith(f"/{'x' * 64}/")


@pytest.mark.parametrize(
    ("template", "ids"),
    [
        ("things/{id}/", {"id": "P1"}),
        ("//evil.invalid/{id}/", {"id": "P1"}),
        ("/things/{id}/", {}),
        ("/things/", {"id": "P1"}),
        ("/things/{id}/", {"id": "P1", "other": "P2"}),
        ("/things/{}/", {"id": "P1"}),
        ("/things/{id.upper}/", {"id": "P1"}),
        ("/things/{id!r}/", {"id": "P1"}),
        ("/things/{id:>70}/", {"id": "P1"}),
        ("/things/{id", {"id": "P1"}),
    ],
)
def test_a_template_that_is_wrong_is_a_mistake_of_the_handler(template: str, ids: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"template|expected|format"):
        build(BASE, template, ids)


@pytest.mark.parametrize(
    "text", ["..", ".", "%2e%2e", "a/../b", "a#b", "a b", "a\r\nX-Evil: 1", "a\tb", "é", "a?x y", "a?é", "a?b#c"]
)
def test_an_id_written_into_the_template_cannot_leave_it_either(text: str) -> None:
    with pytest.raises(ValueError, match="ids go in as"):
        build(BASE, f"/things/{text}/", {})


def test_a_template_may_carry_a_fixed_query() -> None:
    assert build(BASE, "/things/{id}/?embed=owner,policy", {"id": "P1"}) == f"{BASE}/things/P1/?embed=owner,policy"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=70) | st.from_regex(r"[A-Za-z0-9_.%/-]{1,66}", fullmatch=True))
def test_any_text_is_an_id_or_rejected(text: str) -> None:
    try:
        url = build(BASE, TEMPLATE, {"portfolio_id": "P1", "id": text})
    except Reject:
        assert not text.isascii() or not text or len(text) > 64 or set(text) - set(SAFE)
    else:
        assert url == f"{BASE}/portfolios/P1/optimizations/{text}/"
        assert 1 <= len(text) <= 64
        assert set(text) <= set(SAFE)


SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


def test_a_server_sees_the_template_with_that_id_and_nothing_else() -> None:
    """Over real connections, since libraries rewrite URLs: yarl resolves `..` and unquotes `%2e`."""
    ids = st.text(max_size=66) | st.text(alphabet=SAFE + "./%?#\\ ", min_size=1, max_size=66) | st.text(alphabet=SAFE, max_size=66)

    with asyncio.Runner() as runner:
        server = Raw()
        runner.run(server.__aenter__())
        rig = runner.run(_made(server.url + "/bank"))

        @settings(max_examples=200, deadline=None)
        @given(ids)
        def check(text: str) -> None:
            server.seen.clear()
            try:
                runner.run(rig.api.optimization(text, text))
            except Reject:
                assert server.seen == []
            else:
                assert [seen.target for seen in server.seen] == [f"/bank/portfolios/{text}/optimizations/{text}/"]

        check()
        runner.run(rig.client.close())
        runner.run(server.__aexit__(None, None, None))


async def _made(url: str) -> Rig:
    return Rig(real=True, base_url=url)


@virtual
async def test_the_base_url_takes_its_path_along_to_the_login() -> None:
    rig = Rig(base_url="https://h/bank/")
    await rig.client.call("GET", "/things/", {}, fresh_until=OLD)
    assert [sent.url for sent in (*rig.script.logins, *rig.script.calls)] == [
        "https://h/bank/auth/login/",
        "https://h/bank/things/",
    ]
