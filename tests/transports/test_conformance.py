"""The conformance suite itself: every transport passes all of it, and its answers are neither unproved nor arbitrary."""

import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from investbus.plugins import BUILT_IN
from tests.transports.conformance import NOT_FOR, VARIANTS, groups
from tests.transports.conformance_guarantees import GUARANTEES, QUESTIONS, Guarantees
from tests.transports.reading import take, until

NAMES = tuple(BUILT_IN["transport"])
LOCAL = ("file", "memory")  # where trying it the wrong way round takes no broker and no time
SECONDS = ("shares the events", "waits", "is refused")

Cases = dict[str, list[tuple[type, Callable[..., Any]]]]


def module(name: str) -> Any:
    return import_module(f"tests.transports.test_conformance_{name}")


def proving(groups: Iterable[type]) -> Cases:
    """By question, the cases that prove its answer."""
    found: Cases = {}
    for group in groups:
        for case in vars(group).values():
            for question in getattr(case, "proves", ()):
                found.setdefault(question, []).append((group, case))
    return found


def answered(name: str) -> set[tuple[str, object]]:
    return {(question, answer) for question, answer in GUARANTEES[name]._asdict().items() if answer is not None}


@pytest.mark.parametrize("name", NAMES)
def test_every_transport_passes_every_group_that_applies_to_it(name: str) -> None:
    suite = module(name).TestConformance
    assert suite.__bases__ == groups(name)
    assert not [case for case in vars(suite) if case.startswith("test")], "a case is the same on every bus"
    assert set().union(*NOT_FOR.values()) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_answer_is_proved_by_a_case_that_applies(name: str) -> None:
    assert {question for question, _ in answered(name)} == set(proving(groups(name)))
    assert Guarantees._fields == tuple(QUESTIONS)
    assert set(GUARANTEES) == {*NAMES, *VARIANTS}


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_variant_answers_otherwise_is_proved_on_it(name: str) -> None:
    variant = VARIANTS[name]
    assert getattr(module(variant.of), variant.suite).__bases__ == variant.groups
    otherwise = {question for question, _ in answered(name) - answered(variant.of)}
    assert otherwise <= set(proving(variant.groups))
    assert otherwise, "then it need not be told apart"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "question"), [(name, question) for name in LOCAL for question, _ in sorted(answered(name))])
async def test_no_case_is_content_with_another_answer(
    name: str, question: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.transports.conformance_leases.until", partial(until, within=1.0))
    monkeypatch.setattr("tests.transports.conformance_leases.take", partial(take, within=1.0))
    answer = getattr(GUARANTEES[name], question)
    others = [not answer] if isinstance(answer, bool) else [other for other in SECONDS if other != answer]
    for other in others:
        for group, case in proving(groups(name))[question]:
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            bus = module(name).FileBus(folder) if name == "file" else module(name).MemoryBus()
            bus.guarantees = Guarantees(**GUARANTEES[name]._asdict() | {question: other})
            with pytest.raises((AssertionError, TimeoutError)):
                await case(group(), bus)
