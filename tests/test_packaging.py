"""What is promised about installing: a small core, and requirement files that install the same bytes anywhere.

A bank installs from a mirror of its own, so no file may name where packages come from; and it reviews every package
that comes along, so the core's closure is bounded.
"""

import re
import tomllib
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CORE_LIMIT = 30

Asked = tuple[NormalizedName, frozenset[str]]  # a distribution and its extras


def needed(name: str, extras: frozenset[str]) -> set[Asked]:
    """What the installed distribution `name` with `extras` asks for on this interpreter."""
    wanted = [Requirement(line) for line in distribution(name).requires or []]
    return {
        (canonicalize_name(one.name), frozenset(one.extras))
        for one in wanted
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras | {""})
    }


def closure(name: str) -> set[NormalizedName]:
    """Every distribution that installing `name` without extras brings, itself left out."""
    start: Asked = (canonicalize_name(name), frozenset())
    seen, waiting = {start}, [start]
    while waiting:
        new = needed(*waiting.pop()) - seen
        seen |= new
        waiting.extend(new)
    return {found for found, _ in seen} - {start[0]}


def pins(path: Path) -> dict[NormalizedName, str]:
    """Name and version of each pin. Fails on any line that is not a pin, one of its hashes, or a comment."""
    found: dict[NormalizedName, str] = {}
    for entry in re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8")).splitlines():
        if not entry.strip() or entry.lstrip().startswith("#"):
            continue
        requirement, *hashes = entry.split(" --hash=")
        assert hashes, f"{path.name}: not locked by a hash: {entry}"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest.strip()) for digest in hashes), f"{path.name}: {entry}"
        parsed = Requirement(requirement)
        [specifier] = parsed.specifier
        assert specifier.operator == "==", f"{path.name}: not an exact pin: {requirement}"
        assert "*" not in specifier.version, f"{path.name}: not an exact pin: {requirement}"
        assert parsed.url is None, f"{path.name}: names where it comes from: {requirement}"
        found[canonicalize_name(parsed.name)] = specifier.version
    return found


def test_the_core_brings_at_most_thirty_packages() -> None:
    brought = closure("investbus")
    assert {"aiohttp", "msgspec", "pydantic", "pyyaml", "typer"} <= brought
    assert len(brought) <= CORE_LIMIT, sorted(brought)


def test_the_core_is_locked_completely() -> None:
    assert closure("investbus") <= pins(ROOT / "requirements" / "core.txt").keys()


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirement_files_hold_only_hashed_pins(path: Path) -> None:
    assert pins(path)


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirement_files_name_no_host(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"://|^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b", text, re.MULTILINE)


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_a_package_has_one_version_in_all_files(path: Path) -> None:
    everything = pins(ROOT / "requirements" / "all.txt")
    assert {name: version for name, version in pins(path).items() if everything.get(name, version) != version} == {}


def test_every_extra_has_its_requirement_file() -> None:
    for extra, direct in PROJECT["project"]["optional-dependencies"].items():
        locked = pins(ROOT / "requirements" / f"{extra}.txt")
        assert {canonicalize_name(Requirement(line).name) for line in direct} <= locked.keys(), extra
        assert pins(ROOT / "requirements" / "core.txt").items() <= locked.items(), extra
        assert locked.items() <= pins(ROOT / "requirements" / "all.txt").items(), extra


def test_one_lock_only() -> None:
    assert not (ROOT / "uv.lock").exists()


def test_the_command_is_installed() -> None:
    [command] = entry_points(group="console_scripts", name="investbus")
    assert command.value == "investbus.cli:main"
    assert callable(command.load())


def test_pytest_finds_the_fixture(pytestconfig: pytest.Config) -> None:
    [plugin] = entry_points(group="pytest11", name="investbus")
    assert plugin.value == "investbus.testing"
    assert pytestconfig.pluginmanager.has_plugin("investbus")


def test_type_checkers_see_the_types() -> None:
    assert (ROOT / "src" / "investbus" / "py.typed").exists()
