"""The router against a model that is too simple to be wrong, and everything that it refuses at start."""

import random
from typing import Any

import pytest

from investbus import Context, Event, Router
from investbus.catalogue import DivestAmountUpdate, all_known, canonical
from investbus.errors import ConfigError
from investbus.registration import model_of
from investbus.router import RouteTable, compose


async def handler(event: Event[Any], ctx: Context) -> None:
    """Does nothing."""


def table_of(*routers: Router) -> RouteTable:
    return RouteTable([found for router in routers for found in router.found()])


def refused(*routers: Router) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        table_of(*routers)
    return list(caught.value.lines)


def naive(registered: list[str], name: str) -> str | None:
    """Exact beats `subject.*` beats `*.action` beats `*.*`, then default; the official name before the one on the wire."""
    official = canonical(name)
    for one in registered:
        if "*" not in one and canonical(one) == official:
            return canonical(one)
    for pattern in (
        official.split(".")[0] + ".*",
        name.split(".", maxsplit=1)[0] + ".*",
        "*." + official.split(".")[1],
        "*." + name.split(".")[1],
        "*.*",
        "default",
    ):
        if pattern in registered:
            return pattern
    return None


def test_ten_thousand_names_against_a_naive_model() -> None:
    chance = random.Random(20261121)
    names = [name for known in all_known() for name in (known.name, *known.aliases)]
    parts = sorted({part for name in names for part in name.split(".")} | {"a", "b", "default"})
    checked = 0
    for _ in range(100):
        registered: list[str] = []
        router = Router()
        for _ in range(chance.randrange(0, 12)):
            subject, action = (chance.choice([*parts, "*", "*", "*"]) for _ in range(2))
            name = chance.choice([f"{subject}.{action}", chance.choice(names)])
            if canonical(name) not in [canonical(one) for one in registered]:
                registered.append(name)
                router.on(name)(handler)
        if chance.random() < 0.3 and "*.*" not in registered:
            registered.append("default")
            router.default(handler)
        table = table_of(router)
        for _ in range(100):
            name = chance.choice([chance.choice(names), f"{chance.choice(parts)}.{chance.choice(parts)}"])
            match = table.match(name)
            found = None if match.entry is None else match.entry.name
            assert found == naive(registered, name), (registered, name, match.why)
            assert table.match(name) is match, "dispatch and explain must be one answer"
            checked += 1
    assert checked == 10_000


def test_an_alias_reaches_the_handler_of_the_event_whichever_is_registered() -> None:
    router = Router()
    router.on("portfolios.withdrawal")(handler)
    table = table_of(router)
    for name in ("portfolios.divest-amount-update", "portfolios.withdrawal", "portfolio.withdrawal-request"):
        entry = table.match(name).entry
        assert entry is not None
        assert entry.name == "portfolios.divest-amount-update"
    assert "portfolios.withdrawal" in table.entries[0].aliases


def test_two_handlers_for_one_event_are_refused_with_both_places() -> None:
    router = Router()
    router.on("portfolios.divest-amount-update")(handler)

    async def another(event: Event[Any], ctx: Context) -> None:
        """Does nothing either."""

    router.on("portfolios.withdrawal")(another)
    (line,) = refused(router)
    assert 'test_router.py:' in line.split(" ")[0]
    assert '"portfolios.withdrawal" is another name of "portfolios.divest-amount-update", already handled at' in line
    assert line.count("test_router.py:") == 2


def test_the_same_pattern_or_a_second_default_is_refused() -> None:
    router = Router()
    router.on("portfolios.*")(handler)
    router.on("portfolios.*")(handler)
    router.default(handler)
    router.default(handler)
    assert len(refused(router)) == 2


def test_a_default_that_another_handler_leaves_nothing_is_refused_with_both_places() -> None:
    router = Router()
    router.default(handler)
    router.on("*.*")(handler)
    (line,) = refused(router)
    assert "the default handler can never match" in line
    assert line.count("test_router.py:") == 2


NEVER = ["portfolios", "a.b.c", "", ".", "a.", ".b", "port*.creation", "a.b*", "a.\x07b", "x" * 201 + ".a"]


@pytest.mark.parametrize("name", NEVER)
def test_a_name_that_can_never_match_is_refused(name: str) -> None:
    router = Router()
    router.on(name)(handler)
    (line,) = refused(router)
    assert "can never match" in line


def test_what_is_no_handler_is_refused() -> None:
    router = Router()

    @router.on("a.b")
    def plain(event: Event[Any], ctx: Context) -> None:
        """Not async."""

    @router.on("a.c")
    async def lonely(event: Event[Any]) -> None:
        """No context."""

    @router.on("a.d")
    async def unreadable(event: "Event[Missing]", ctx: Context) -> None:  # type: ignore[name-defined]  # noqa: F821
        """An annotation that names nothing."""

    lines = refused(router)
    assert ["is no async function" in lines[0], "must take two arguments" in lines[1], "cannot be read" in lines[2]] == [True] * 3


def test_the_model_is_the_one_in_the_annotation() -> None:
    async def typed(event: Event[DivestAmountUpdate], ctx: Context) -> None: ...
    async def plain(event: Event, ctx: Context) -> None: ...  # type: ignore[type-arg]  # what a bank writes without types
    async def of_dict(event: Event[dict[str, Any]], ctx: Context) -> None: ...
    async def bare(event, ctx): ...  # type: ignore[no-untyped-def]  # the same

    assert [model_of(one) for one in (typed, plain, of_dict, bare)] == [DivestAmountUpdate, None, None, None]


async def test_middleware_runs_outermost_first_and_reaches_included_routers() -> None:
    seen: list[str] = []
    outer, inner = Router(), Router()

    def note(name: str) -> Any:
        async def middleware(event: Event[Any], ctx: Context, call_next: Any) -> None:
            seen.append(f"{name} in")
            await call_next(event, ctx)
            seen.append(f"{name} out")

        return middleware

    outer.middleware(note("outer"))
    inner.middleware(note("inner"))

    @inner.on("a.b")
    async def run(event: Event[Any], ctx: Context) -> None:
        seen.append("handler")

    outer.include(inner)
    (found,) = outer.found()
    await compose(run, found.middleware)(None, None)  # type: ignore[arg-type]  # nobody looks at them
    assert seen == ["outer in", "inner in", "handler", "inner out", "outer out"]


def test_a_lifespan_belongs_to_the_nearest_router_that_has_one() -> None:
    outer, plain, own = Router(), Router(), Router()
    outer.lifespan(lambda: None)
    own.lifespan(lambda: None)
    plain.on("a.b")(handler)
    own.on("a.c")(handler)
    outer.include(plain)
    outer.include(own)
    assert [found.home for found in outer.found()] == [outer, own]
