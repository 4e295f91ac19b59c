"""README and DESIGN.md are held to the code: what they name exists, what they show runs, what is generated is current.

A line of expected output may hold `…`, which stands for anything.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from investbus import cli
from investbus.config import ENV_PREFIX, RouteOverride, Settings
from investbus.config_load import CONFIG_VARIABLE, load
from investbus.config_rules import dotted, keys, variable
from investbus.metrics import ROWS
from tests.docs_tables import README, renewed, verbs

ROOT = README.parent
SOURCE = ROOT / "src" / "investbus"
DESIGN = SOURCE / "DESIGN.md"
CHANGELOG = ROOT / "CHANGELOG.md"
TEXT = README.read_text(encoding="utf-8")
FIRST_SCREEN = 40  # lines

GLOBAL = {"-c", "--config", "--set", "--format", "--version"}
VERBS = {words: {flag for one in command.params for flag in one.opts} for words, command in verbs(get_command(cli._app()))}
KEYS = {dotted(key) for key in (*keys(), *((("routes", "NAME", *key)) for key in keys(RouteOverride)))}


def blocks(text: str, language: str = r"\w+") -> list[tuple[str, str]]:
    """Every fenced block: its language and what is in it."""
    return re.findall(rf"^```({language})\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def spans(text: str) -> list[str]:
    """Everything between backticks outside of blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def code(text: str) -> list[str]:
    """Every line of a block and every span."""
    return [line for _, block in blocks(text) for line in block.splitlines()] + spans(text)


def headings(text: str) -> set[str]:
    """The anchors of a page, as Git hosts make them."""
    lines = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def matches(shown: str, real: str) -> bool:
    return re.fullmatch(re.escape(shown).replace("…", ".*"), real) is not None


# ---- what is generated, and what is named


def test_the_generated_tables_are_current() -> None:
    assert renewed(TEXT) == TEXT, "python -m tests.docs_tables --write"


@pytest.mark.parametrize("page", [README, DESIGN, CHANGELOG], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8"))
    assert links
    for path, anchor in links:
        if "://" in path:
            continue
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in headings(target.read_text(encoding="utf-8")), f"{path}#{anchor}"


def command_lines() -> Iterator[list[str]]:
    """Every command line in the README, without the program and without the brackets of optional parts."""
    groups = {words[0] for words in VERBS}
    for line in code(TEXT):
        text = line.removeprefix("$ ").replace("[", "").replace("]", "").replace(r"\|", "|")
        if text.startswith("investbus "):
            yield shlex.split(text, comments=True)[1:]
        elif text.split()[0:1] and text.split()[0] in groups and " " in text and "=" not in text:
            yield shlex.split(text)


def test_commands_and_flags_exist() -> None:
    seen = set()
    for words in command_lines():
        verb = next((known for known in VERBS if known == tuple(words[: len(known)])), None)
        assert verb is not None, words
        flags = {word.partition("=")[0] for word in words if word.startswith("-") and len(word) > 1}
        assert flags <= VERBS[verb] | GLOBAL, words
        seen.add(verb)
    assert seen == set(VERBS), "every command is shown"


def test_flags_that_are_named_alone_exist() -> None:
    known = GLOBAL.union(*VERBS.values())
    for span in spans(TEXT):
        if span.startswith("-"):
            assert span.split()[0] in known, span


def test_metrics_exist() -> None:
    named = re.findall(rf"{cli.PROGRAM}_([a-z_]+)", TEXT)
    assert set(named) == set(ROWS)


def test_configuration_keys_and_variables_exist() -> None:
    sections = "|".join(Settings.model_fields)
    named = {span for span in spans(TEXT) if re.fullmatch(rf"({sections})(\.\w+)+", span)}
    named |= {key for line in code(TEXT) for key in re.findall(r"--set ([a-z_.]+)=", line)}
    assert len(named) > 50
    assert named <= KEYS, named - KEYS
    variables = set(re.findall(rf"\b{ENV_PREFIX}[A-Z_]+", TEXT))
    assert variables <= {CONFIG_VARIABLE} | {variable(key) for key in keys()}, variables


def test_make_targets_and_modules_exist() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = [name for line in code(TEXT) for name in re.findall(r"\bmake ([a-z-]+)", line)]
    assert {"demo", "test"} <= set(named) <= set(targets)
    for module in re.findall(r"python -m (tests\.\w+)", TEXT):
        assert find_spec(module), module


# ---- what is shown


def test_the_first_screen_holds_the_handler() -> None:
    block = next(body for _, body in blocks(TEXT, "python"))
    assert TEXT[: TEXT.index(block) + len(block)].count("\n") < FIRST_SCREEN


@pytest.mark.parametrize("block", [body for _, body in blocks(TEXT, "yaml")], ids=lambda block: block.splitlines()[0])
def test_yaml_is_a_configuration(block: str, tmp_path: Path) -> None:
    forms = {"url": "amqps://mw:k3y@rabbit.bank/", "connection_string": "Endpoint=sb://bus.bank;SharedAccessSignature=k3y"}
    page, secrets = tmp_path / "page.yaml", re.compile(r"(\w+)_file: [^\s,}]+")
    for name in secrets.findall(block):
        (tmp_path / name).write_text(forms.get(name, "k3y"))
    page.write_text(secrets.sub(rf"\g<1>_file: {tmp_path}/\g<1>", block))
    loaded = load(page, (), {})
    assert loaded.settings.store.url is not None


def test_a_reader_who_does_as_told_sees_what_is_shown(tmp_path: Path) -> None:
    """Files are written and commands are run in the order of the page, in one folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith((ENV_PREFIX, "PYTEST_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    written = ran = 0
    for language, block in blocks(TEXT):
        name = re.match(r"# (\S+\.(?:py|yaml))\n", block)
        if name:
            (tmp_path / name[1]).parent.mkdir(exist_ok=True)
            (tmp_path / name[1]).write_text(block)
            written += 1
        assert name or language != "python", "a block without a name is never run"
        for command, *expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE) if language == "console" else ():
            done = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            shown, real = expected[0].splitlines(), done.stdout.splitlines()
            assert len(shown) == len(real), f"{command}\n{done.stdout}"
            assert all(map(matches, shown, real)), f"{command}\n{done.stdout}"
            ran += 1
    assert (written, ran) == (5, 8)


@pytest.mark.slow
def test_the_demo_says_what_is_shown(tmp_path: Path) -> None:
    block = next(body for _, body in blocks(TEXT, "text") if "$ make demo" in body)
    shown = [line for line in block.splitlines() if not line.startswith("$ ")]
    program = Path(sys.executable).with_name(cli.PROGRAM)
    done = subprocess.run([program, "demo"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    said = iter((done.stderr + done.stdout).splitlines())
    for line in shown:
        timeless = re.sub(r" ?\d+\.\d", "…", line)
        assert any(matches(timeless, real) for real in said), line


# ---- DESIGN.md


def section(name: str) -> str:
    _, _, rest = DESIGN.read_text(encoding="utf-8").partition(f"\n## {name}\n")
    assert rest, name
    return rest.partition("\n## ")[0]


def test_the_file_map_has_every_file_once() -> None:
    listed = re.findall(r"^ *(\S+\.(?:py|md|typed))  +\S.*$", section("File map"), re.MULTILINE)
    real = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.*") if path.suffix in (".py", ".md", ".typed")}
    assert sorted(listed) == sorted(real)


def test_every_invariant_names_tests_that_exist() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", section("Invariants"), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 12))
    defined = {name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    for number, tests in rows:
        named = set(re.findall(r"`(test_\w+)`", tests))
        assert named, f"invariant {number} has no test"
        assert named <= defined, named - defined


def test_files_and_decisions_of_the_design_exist() -> None:
    text = DESIGN.read_text(encoding="utf-8")
    for path in (span for span in spans(text) if re.fullmatch(r"[\w/]+\.py", span)):
        assert (SOURCE / path).exists() or (ROOT / path).exists(), path
    decisions: list[Any] = re.findall(r"^(\d+)\. \*\*", section("Decisions"), re.MULTILINE)
    assert [int(number) for number in decisions] == list(range(1, len(decisions) + 1))
    assert section("Decisions").count("Revisit when") == len(decisions) > 15
