"""Log lines of both formats: tracebacks show where, and never what was in the variables there."""

import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from investbus import log
from investbus.config import Log

CANARY = "canary-BE68"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def fails(data: dict[str, str], password: str) -> None:
    raise RuntimeError(f"boom after {len(data) + len(password)}")


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("logger", ["structlog", "logging"])
def test_a_traceback_names_the_place_and_shows_no_local_variable(
    capsys: pytest.CaptureFixture[str], form: Literal["text", "json"], logger: str
) -> None:
    log.configure(Log(format=form))
    secret = CANARY.upper()
    try:
        fails({"iban": CANARY.lower()}, secret)
    except RuntimeError:
        if logger == "structlog":
            structlog.get_logger("investbus.handler").exception("failed")
        else:
            logging.getLogger("bank.events").exception("failed")
    written = capsys.readouterr().err
    assert "boom after 12" in written
    assert "in fails" in written, "the innermost frame"
    assert CANARY.lower() not in written.lower()


def test_lines_of_other_libraries_are_json_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Log(format="auto"))
    structlog.get_logger("investbus.gate").warning("gate closed", gate="api")
    logging.getLogger("sqlalchemy").warning("pool of %d is full", 5)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [("warning", "gate closed"), ("warning", "pool of 5 is full")]
    assert lines[0]["gate"] == "api"


def test_a_level_holds_for_us_and_for_other_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Log(level="warning", format="text"))
    for level in ("info", "warning"):
        getattr(structlog.get_logger("investbus.worker"), level)(f"ours {level}")
        getattr(logging.getLogger("bank"), level)(f"theirs {level}")
    logging.getLogger("aiokafka.conn").error("connect failed")
    said = capsys.readouterr().err
    assert [word for word in ("ours info", "theirs info", "ours warning", "theirs warning", "connect failed") if word in said] == [
        "ours warning",
        "theirs warning",
    ]
