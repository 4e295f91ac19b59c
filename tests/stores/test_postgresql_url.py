"""Where the PostgreSQL store is: what is wrong with a URL is told without the URL, a rotated one is taken, and a weak one found."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from investbus.check import offline
from investbus.cli.config import shown
from investbus.config import Settings, StoreSettings
from investbus.errors import ConfigError
from investbus.router import RouteTable
from investbus.stores import open_store, store_url
from investbus.stores.postgresql_url import address

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://mw:{SECRET}%zz@host/db",
        f"postgresql://mw:x@{SECRET}@host/db",
        f"postgresql://mw:{SECRET}/x@host/db",
        f"postgresql://mw:5432/{SECRET}@host/db",
        f"postgresql://mw:x@host:{SECRET}/db",
        f"postgresql://host/db?{SECRET}=1",
        f"postgresql://host/db?options=-c{SECRET}=1",
        f"postgresql://mw:{SECRET}\udcff@host/db",
        f"mysql://mw:{SECRET}@host/db",
        f"{SECRET}",
    ],
)
def test_a_url_that_cannot_be_read_is_told_without_a_word_of_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^store.url: [^\n]*write [^\n]*$") as caught:
        open_store(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (f"postgresql://mw:{SECRET}@db.bank:5433/events?sslmode=verify-full", "postgresql://db.bank:5433/events"),
        (f"postgresql://db/events?user=mw&password={SECRET}", "postgresql://db/events"),
        (f"postgresql://mw:{SECRET}@a,b:5433/events", "postgresql://a,b:5433/events"),
        ("postgresql:///events?host=/run/postgresql", "postgresql:///run/postgresql/events"),
    ],
)
def test_what_is_said_of_a_place_is_hosts_and_database(url: str, place: str) -> None:
    assert address(url).place == place


def test_what_the_url_says_wins_over_our_defaults() -> None:
    given = address("postgresql://h/d?target_session_attrs=any&connect_timeout=9&sslmode=verify-full&sslrootcert=system").parameters
    assert (given["target_session_attrs"], given["connect_timeout"]) == ("any", "9")
    assert (given["sslmode"], given["sslrootcert"]) == ("verify-full", "system")
    assert address("postgresql://h/d").parameters["target_session_attrs"] == "read-write"


def test_without_the_client_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("investbus.stores.postgresql")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError) as caught:
        open_store("postgresql://h/d")
    assert str(caught.value) == 'store.url: postgresql:// needs the extra: pip install "investbus[postgresql]"'


# ---- secrets


def test_a_configuration_is_shown_without_the_password() -> None:
    settings = StoreSettings(url=f"postgresql://mw:{SECRET}@db/events?sslpassword={SECRET}")
    assert shown(settings.model_dump())["url"] == "postgresql://***@db/events?sslpassword=***"


def test_the_file_of_the_url_is_read_each_time(tmp_path: Path) -> None:
    settings = StoreSettings(url_file=tmp_path / "url")
    with pytest.raises(ConfigError, match=r"^store\.url_file: cannot be read: .*No such file"):
        store_url(settings)
    for url in ("postgresql://one/d", "postgresql://two/d"):
        (tmp_path / "url").write_text(f"{url}\n")
        assert store_url(settings) == url


# ---- check


def findings(url: str) -> Iterator[str]:
    return offline(Settings(transport="memory", store=StoreSettings(url=url)), RouteTable([]))


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://mw@db.bank/events", "prefer"),
        ("postgresql://mw@db.bank/events?sslmode=disable", "disable"),
        ("postgresql://mw@localhost,db.bank/events?sslmode=require", "require"),
        ("postgresql://mw@localhost/events?hostaddr=192.0.2.1&sslmode=verify-ca", "verify-ca"),
        ("postgresql://mw@[2001:db8::1]/events", "prefer"),
    ],
)
def test_a_connection_that_others_could_read_or_pretend_to_is_a_finding(url: str, mode: str) -> None:
    (finding,) = findings(url)
    assert finding.startswith(f"store.url: sslmode {mode} towards ")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://mw@db.bank/events?sslmode=verify-full",
        "postgresql://mw@db.bank/events?sslrootcert=system",
        "postgresql://mw@127.0.0.1/events",
        "postgresql://mw@[::1],localhost/events",
        "postgresql:///events?host=/run/postgresql",
        "sqlite:////var/lib/state.db",
    ],
)
def test_a_connection_that_is_proved_or_stays_on_this_machine_is_none(url: str) -> None:
    assert list(findings(url)) == []


def test_the_mode_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert list(findings("postgresql://mw@db.bank/events")) == []
