"""What a decorator says is looked at like `routes:` of the configuration, and told in its words with the handler's place."""

from collections.abc import Mapping
from typing import Any

import pytest

from investbus import Context, Event, Router
from investbus.ambient import real
from investbus.config import Settings
from investbus.errors import ConfigError
from investbus.gatehouse import Gatehouse
from investbus.metrics import Metrics
from investbus.router import RouteTable
from investbus.routes import build_routes
from investbus.work import Route


async def routes_of(*said: Mapping[str, Any], settings: Settings | None = None) -> dict[str, Route]:
    """Handlers of `a.b0`, `a.b1` and so on with these options, as a worker would run them."""
    router, settings = Router(), settings or Settings()
    for number, options in enumerate(said):

        @router.on(f"a.b{number}", **options)
        async def handler(event: Event[Any], ctx: Context) -> None: ...

    return build_routes(settings, RouteTable(list(router.found())), Gatehouse(settings.gate, real()), Metrics("memory"))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"timeout": "20"}, "timeout= must be a positive number of seconds, and is '20'; write it as in timeout=20.0"),
        ({"timeout": True}, "timeout= must be a positive number of seconds, and is True; write it as in timeout=20.0"),
        ({"dedup": "no"}, "dedup= must be True or False, and is 'no'"),
        ({"collapse": 1}, "collapse= must be True or False, and is 1"),
        ({"supersede": "yes"}, "supersede= must be True or False, and is 'yes'"),
        ({"retry": 3}, 'retry= must be a dict of the keys of retry:, such as {"attempts": 3}, and is int'),
        ({"retry": {"attempt": 3}}, "retry.attempt: unknown key; did you mean retry.attempts?"),
        ({"retry": {"xyzzy": 3}}, "retry.xyzzy: unknown key; known here: attempts, first, factor, max, jitter"),
        ({"retry": {"attempts": 0}}, "retry.attempts: must be at least 1"),
        ({"retry": {"attempts": "3"}}, "retry.attempts: must be a whole number"),
        ({"retry": {"first": "1s"}}, "retry.first: must be a number"),
        (
            {"supersede": True, "dedup": False},
            "supersede needs dedup: the record of a later success is what makes a dead letter obsolete",
        ),
    ],
    ids=str,
)
async def test_an_option_that_cannot_be_is_refused_with_the_place_of_the_handler(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await routes_of(said)
    (line,) = caught.value.lines
    assert line.startswith("tests/test_routes.py:")
    assert line.endswith(f": handler of a.b0: {words}")


async def test_the_mistakes_of_all_routes_are_told_at_once() -> None:
    away = Settings.model_validate({"routes": {"a.b2": {"timeout": 3}}})
    with pytest.raises(ConfigError) as caught:
        await routes_of({"retry": {"attempts": 0, "frist": 1.0}}, {"retry": {"jitter": 2.0}}, settings=away)
    assert caught.value.lines[0].startswith("routes.a.b2: no handler is registered under this name; did you mean a.b")
    assert [line.split(": ", 2)[2] for line in caught.value.lines[1:]] == [
        "retry.attempts: must be at least 1",
        "retry.frist: unknown key; did you mean retry.first?",
        "retry.jitter: must be at most 1",
    ]


async def test_a_retry_without_a_value_is_as_if_not_said() -> None:
    (route,) = (await routes_of({"retry": {"attempts": None, "first": 2}})).values()
    assert (route.policy.attempts, route.policy.first) == (5, 2.0)


@pytest.mark.parametrize("name", [7, None])
def test_a_name_that_is_no_text_is_refused(name: Any) -> None:
    router = Router()

    @router.on(name)
    async def handler(event: Event[Any], ctx: Context) -> None: ...

    with pytest.raises(ConfigError, match=f"{name} is no name of an event; write a text"):
        RouteTable(list(router.found()))
