"""`investbus check` finds before the start what `run` would only meet later, and says all of it at once."""

import importlib
import json
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from investbus.cli import main
from tests.brokers.postgresql import PostgreSql

HEAD = "from contextlib import asynccontextmanager, contextmanager\nfrom investbus import Router\nrouter = Router()\n"
FINE = HEAD + '@router.on("portfolios.creation")\nasync def handler(event, ctx): ...\n'
PLACES = ("--set", "file.path=e.ndjson", "--set", "store.url=sqlite:///s.db", "--set", "ops.port=0")

Said = tuple[int, list[str], list[str]]
Investbus = Callable[..., Said]


@pytest.fixture(autouse=True)
def _bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, as a bank begins with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if not name.startswith("investbus"):
            del sys.modules[name]


@pytest.fixture
def investbus(capsys: pytest.CaptureFixture[str]) -> Investbus:
    def run(verb: str, *argv: str, handlers: Sequence[str] = ("bank:router",), places: Sequence[str] = PLACES) -> Said:
        importlib.invalidate_caches()
        sets = ("--set", f"handlers={json.dumps(handlers)}") if handlers else ()
        code = main([verb, *sets, *places, *argv])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


def write(text: str, name: str = "bank.py") -> None:
    Path(name).write_text(text)


def findings(said: Said) -> list[str]:
    return [line.removeprefix("finding: ") for line in said[1] if line.startswith("finding: ")]


def test_what_is_well_has_no_finding(investbus: Investbus) -> None:
    write(FINE)
    code, out, err = investbus("check")
    assert (code, out[-1], err) == (0, "routes: 1, findings: 0; --connect also asks the other side", [])


# ---- handlers


OPTIONS = {
    'timeout="20"': "timeout= must be a positive number of seconds, and is '20'; write it as in timeout=20.0",
    "timeout=0": "timeout= must be a positive number of seconds, and is 0; write it as in timeout=20.0",
    'key="id"': "key= must be a function of the event, and is str",
    'dedup="no"': "dedup= must be True or False, and is 'no'",
    'retry={"attempt": 3}': "retry.attempt: unknown key; did you mean retry.attempts?",
    "supersede=True, dedup=False": (
        "supersede needs dedup: the record of a later success is what makes a dead letter obsolete"
    ),
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_cannot_be_is_one_line(option: str, investbus: Investbus) -> None:
    write(FINE.replace('creation"', f'creation", {option}'))
    code, out, err = investbus("check")
    assert (code, out, err) == (2, [], [f"bank.py:4: handler of portfolios.creation: {OPTIONS[option]}"])


def test_a_model_that_is_none_is_one_line(investbus: Investbus) -> None:
    write(FINE.replace("(event,", '(event: "Event[Model]",') + "from investbus import Event\nclass Model: ...\n")
    code, _, err = investbus("check")
    assert (code, err) == (2, ["bank.py:4: handler of portfolios.creation: Event[Model]: Model is nothing that pydantic can read"])


@pytest.mark.parametrize("decorator", ["on", "on()"])
def test_a_decorator_without_a_name_is_one_line(decorator: str, investbus: Investbus) -> None:
    write(HEAD + f"@router.{decorator}\nasync def handler(event, ctx): ...\n")
    code, _, err = investbus("check")
    assert (code, len(err)) == (2, 1)
    assert "bank.py:4: " in err[0]


LIFESPANS = {
    "@router.lifespan\nasync def resources():\n    yield 1\n": (
        "the lifespan is no async context manager; write @asynccontextmanager under @router.lifespan, then async def"
    ),
    "@router.lifespan\n@contextmanager\ndef resources():\n    yield 1\n": (
        "the lifespan is no async context manager; write @asynccontextmanager under @router.lifespan, then async def"
    ),
    "@router.lifespan\n@asynccontextmanager\nasync def resources(app):\n    yield 1\n": "the lifespan must take no arguments",
    "router.lifespan(7)\n": "the lifespan must be an @asynccontextmanager function, and is int",
}


@pytest.mark.parametrize("lifespan", LIFESPANS)
def test_what_is_no_lifespan_is_refused(lifespan: str, investbus: Investbus) -> None:
    write(FINE + lifespan)
    code, _, err = investbus("check")
    assert (code, len(err)) == (2, 1)
    assert err[0].endswith(f": {LIFESPANS[lifespan]}")
    assert err[0].startswith("?:" if "7" in lifespan else "bank.py:6:")


def test_a_router_without_routes_is_a_finding(investbus: Investbus) -> None:
    write(HEAD)
    said = investbus("check")
    assert (said[0], findings(said)) == (
        1, ["routes: there are none, so every event would be taken and ignored; register handlers with @router.on"],
    )  # fmt: skip


def test_a_name_very_near_one_of_the_catalogue_is_a_finding_and_others_are_not(investbus: Investbus) -> None:
    near = ["portfolios.status-updat", "portfolois.creation"]
    far = ["portfolios.deletion", "profiles.profile-deleted-for-portfolio", "core.booked", "*.status-updat", "portfolio.withdrawal"]
    write(HEAD + "async def handler(event, ctx): ...\n" + "".join(f'router.on("{name}")(handler)\n' for name in near + far))
    code, out, _ = said = investbus("check")
    assert (code, out[-1][:11]) == (1, "routes: 7, ")
    assert findings(said) == [
        f"route {name} (bank.py:4): no event of the platform that is known here; did you mean {meant}?"
        for name, meant in zip(near, ["portfolios.status-update", "portfolios.creation"], strict=True)
    ]


def test_all_that_is_wrong_with_handlers_and_their_surroundings_is_told_with_its_place(
    investbus: Investbus, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(HEAD + '@router.on("a.b", timeout=0)\nasync def handler(event, ctx): ...\n')
    write("number = 7\n", "other.py")
    write(
        'handlers: ["bank:router", "bnk:router",\n  "other:number"]\ntransport: kafka\ndialect: "bank:decode"\n'
        "kafka: {bootstrap_servers: [k:9092], topic: t, group: g}\n"
        "api: {base_url: https://x, access_key_id: a, secret_access_key: b, ca_file: bank.py}\n",
        "investbus.yaml",
    )
    for module in [one for one in sys.modules if one.startswith(("aiokafka", "investbus.transports.kafka"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    code, out, err = investbus("check", handlers=(), places=())
    assert (code, out) == (2, [])
    assert [line.partition(" (_ssl.c")[0] for line in err] == [
        f'investbus.yaml:1: handlers: "bnk:router": there is no module bnk, neither in {Path.cwd()} nor installed',
        'investbus.yaml:1: handlers: "other:number" is of type int; an investbus.Router is needed',
        "bank.py:4: handler of a.b: timeout= must be a positive number of seconds, and is 0; write it as in timeout=20.0",
        'investbus.yaml:3: transport: "kafka" needs the extra: pip install "investbus[kafka]"',
        "store.url: missing; dead letters need a place: set store.url: sqlite:////var/lib/investbus/state.db",
        'investbus.yaml:4: dialect: "bank:decode": bank has no decode',
        "investbus.yaml:6: api.ca_file bank.py: no CA certificates in it: "
        "[X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found",
    ]


def test_a_route_of_the_configuration_that_no_handler_has_is_told_with_its_place(investbus: Investbus) -> None:
    write(FINE)
    write("transport: memory\nroutes:\n  portfolios.creatoin: {timeout: 3}\n", "investbus.yaml")
    code, _, err = investbus("check")
    said = "routes.portfolios.creatoin: no handler is registered under this name; did you mean portfolios.creation?"
    assert (code, err) == (2, [f"investbus.yaml:3: {said}"])


# ---- what travels in plain text, and what cannot be a login


KAFKA = ["transport=kafka", "kafka.bootstrap_servers=kafka.bank:9092", "kafka.topic=t", "kafka.group=g"]
SASL = ["kafka.security.mechanism=PLAIN", "kafka.security.username=mw", "kafka.security.password=s3cr3t"]
RABBIT = ["transport=rabbitmq", "rabbitmq.queue=q"]
BUS = ["transport=servicebus", "servicebus.queue=q"]
KEY = "SharedAccessKeyName=mw;SharedAccessKey=s3cr3t"

FINDINGS = {
    "SASL in plain text": (
        [*KAFKA, *SASL, "kafka.security.protocol=SASL_PLAINTEXT"],
        "kafka: kafka.security.protocol SASL_PLAINTEXT sends credentials in plain text to kafka.bank; use SASL_SSL",
    ),
    "AMQP in plain text": (
        [*RABBIT, "rabbitmq.url=amqp://mw:s3cr3t@rabbit.bank/"],
        "rabbitmq: rabbitmq.url: amqp:// sends credentials in plain text to rabbit.bank; use amqps://",
    ),
    "management in plain text": (
        [*RABBIT, "rabbitmq.url=amqps://mw:s3cr3t@rabbit.bank/", "rabbitmq.management_url=http://rabbit.bank:15672"],
        "rabbitmq.management_url http://rabbit.bank:15672: credentials would travel in plain text; use https",
    ),
    "an emulator elsewhere": (
        [*BUS, f"servicebus.connection_string=Endpoint=sb://bus.bank;{KEY};UseDevelopmentEmulator=true"],
        "servicebus: servicebus.connection_string: UseDevelopmentEmulator sends tokens and events in plain text to bus.bank; "
        "remove it",
    ),
    "a certificate without its key": (
        [*KAFKA, "kafka.security.protocol=SSL", "kafka.security.cert_file=pem"],
        "kafka: kafka.security.cert_file and key_file (pem, None) do not load: [SSL] PEM lib (_ssl.c:3900)",
    ),
    "an authority that is none": (
        [*RABBIT, "rabbitmq.url=amqps://mw:s3cr3t@rabbit.bank/", "rabbitmq.ca_file=pem"],
        "rabbitmq: rabbitmq.ca_file pem: no CA certificates in it: [X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FINDINGS)
def test_what_can_be_seen_without_a_connection_is_a_finding(name: str, investbus: Investbus) -> None:
    write(FINE)
    write("no certificate\n", "pem")
    sets, finding = FINDINGS[name]
    said = investbus("check", *(word for one in sets for word in ("--set", one)))
    assert said[0] == 1
    (found,) = findings(said)
    assert found.partition(" (_ssl.c")[0] == finding.partition(" (_ssl.c")[0]


@pytest.mark.parametrize(
    "sets",
    [
        [*KAFKA[:1], "kafka.bootstrap_servers=127.0.0.1:1", *KAFKA[2:], *SASL, "kafka.security.protocol=SASL_PLAINTEXT"],
        [*RABBIT, "rabbitmq.url=amqp://mw:s3cr3t@localhost/", "rabbitmq.management_url=http://127.0.0.1:15672"],
        [*BUS, f"servicebus.connection_string=Endpoint=sb://localhost;{KEY};UseDevelopmentEmulator=true"],
        KAFKA,
    ],
    ids=["kafka", "rabbitmq", "servicebus", "kafka without a login"],
)
def test_plain_text_on_this_machine_or_without_a_login_is_none(sets: Sequence[str], investbus: Investbus) -> None:
    write(FINE)
    assert findings(investbus("check", *(word for one in sets for word in ("--set", one)))) == []


# ---- --connect


@pytest.fixture
def nowhere() -> Iterator[str]:
    """The address of a port that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_bus_that_is_down_keeps_no_finding_back(form: str, nowhere: str, investbus: Investbus) -> None:
    write(FINE)
    sets = ["transport=rabbitmq", "rabbitmq.queue=q", f"rabbitmq.url=amqp://u:s3cr3t@{nowhere}/", "dispatch.timeout=90"]
    code, out, err = said = investbus("check", "--connect", "--format", form, *(word for one in sets for word in ("--set", one)))
    found = findings(said) if form == "text" else json.loads("\n".join(out))["findings"]
    assert (code, found) == (
        3, ["route portfolios.creation: timeout 90 s is longer than shutdown.grace 25 s; a stop would cancel it"],
    )  # fmt: skip
    assert err == [f"RabbitMQ {nowhere} cannot be reached: Connection refused"]


def test_everything_that_cannot_be_reached_is_named(nowhere: str, investbus: Investbus) -> None:
    write(FINE)
    sets = ["transport=rabbitmq", "rabbitmq.queue=q", f"rabbitmq.url=amqp://u:s3cr3t@{nowhere}/", f"api.base_url=http://{nowhere}",
            "api.access_key_id=a", "api.secret_access_key=b", "api.timeout=1"]  # fmt: skip
    code, _, err = investbus("check", "--connect", *(word for one in sets for word in ("--set", one)))
    assert code == 3
    assert [line.split()[0] for line in err] == ["RabbitMQ", "api"]


def test_a_store_that_refuses_the_login_is_a_finding(postgresql: PostgreSql, investbus: Investbus) -> None:
    """As from every other side: it was reached, and said no."""
    write(FINE)
    url = urlsplit(postgresql.new_database())
    wrong = url._replace(netloc=f"mw:wr0ng@{url.netloc.rpartition('@')[2]}").geturl()
    nowhere = url._replace(path="/nowhere").geturl()
    for store, said in ((wrong, "password authentication failed"), (nowhere, 'database "nowhere" does not exist')):
        asked = investbus("check", "--connect", "--set", f"store.url={store}")
        assert (asked[0], asked[2]) == (1, [])
        (found,) = findings(asked)
        assert said in found
        assert "wr0ng" not in found


def test_a_store_that_is_down_is_no_finding(nowhere: str, investbus: Investbus) -> None:
    write(FINE)
    code, out, err = investbus("check", "--connect", "--set", f"store.url=postgresql://mw:wr0ng@{nowhere}/x")
    assert (code, out[-1]) == (3, "routes: 1, findings: 0")
    assert err[0].startswith(f"store postgresql://{nowhere}/x: ")


# ---- what --help says


def test_the_examples_of_the_help_work_where_a_bank_has_its_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    write(FINE)
    places = "file: {path: events.ndjson}\nstore: {url: 'sqlite:///state.db'}\nops: {port: 0}\n"
    write(f'handlers: ["bank:router"]\n{places}', "investbus.yaml")
    for verb in (["run"], ["check"], ["routes"], ["config", "show"], ["send"], ["dlq", "list"], ["replays", "list"]):
        assert main([*verb, "--help"]) == 0
        example = capsys.readouterr().out.split("Example: ")[1].split("\n\n")[0]
        program, *words = shlex.split(example)
        if verb == ["run"]:
            assert words == ["run", "--until-idle", "30"], "it is run elsewhere, for it takes half a minute"
        elif verb == ["routes"]:
            assert (program, main(words)) == ("investbus", 1)  # portfolios.withdrawal, which this bank does not handle
        else:
            assert (program, main(words)) == ("investbus", 0)
        capsys.readouterr()


# ---- run refuses the same


def run(*argv: str) -> tuple[int, str]:
    """Exit code and stderr of a process of its own, for it takes over signals and logs."""
    words = [str(Path(sys.executable).with_name("investbus")), "run", "--set", 'handlers=["bank:router"]', *PLACES, *argv]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_run_refuses_what_check_refuses_and_in_the_same_words(investbus: Investbus) -> None:
    lifespan = "@router.lifespan\nasync def resources(): ...\n"
    write(HEAD + '@router.on("a.b", timeout=0, dedup="no")\nasync def handler(event, ctx): ...\n' + lifespan)
    code, _, err = investbus("check")
    assert (code, len(err)) == (2, 3)
    assert run() == (2, "".join(f"{line}\n" for line in err))


@pytest.mark.parametrize("level", ["info", "debug"])
def test_a_lifespan_that_raises_is_one_line_without_its_text(level: str) -> None:
    raising = "import core\n@router.lifespan\n@asynccontextmanager\nasync def resources():\n    core.connect()\n    yield 1\n"
    write("def connect():\n    raise ConnectionError('core://mw:s3cr3t@core is down')\n", "core.py")
    write(FINE + raising)
    code, err = run("--set", f"log.level={level}")
    assert (code, err.splitlines()[-1]) == (
        2, "core.py:2: the lifespan failed with ConnectionError; its text and stack, with log.level: debug",
    )  # fmt: skip
    assert ("s3cr3t" in err) == (level == "debug")
    assert level == "debug" or len(err.splitlines()) == 1


def test_a_lifespan_that_gives_no_context_manager_is_one_line() -> None:
    write(FINE + "@router.lifespan\ndef resources(): return 7\n")
    assert run() == (2, "bank.py:6: the lifespan failed with TypeError; its text and stack, with log.level: debug\n")
