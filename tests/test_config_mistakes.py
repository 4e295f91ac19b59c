"""Every mistake in a configuration is one line that says where, what, and what to do; all of them at once."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from investbus import Router
from investbus.cli import main
from investbus.config_load import load
from investbus.errors import ConfigError
from investbus.testing.bus import Bus

KAFKA = """\
transport: kafka
kafka:
  bootstrap_servers: ["localhost:9092"]
  topic: investsuite.events
  group: bank
"""
MEMORY = "transport: memory\n"


@pytest.fixture(autouse=True)
def _bare_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("INVESTBUS_")]:
        monkeypatch.delenv(name)


def write(text: str, name: str = "c.yaml") -> Path:
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


# name: (file, lines on stderr)
IN_THE_FILE: dict[str, tuple[str, ...]] = {
    "unknown key": (
        KAFKA.replace("bootstrap_servers", "bootstrap_server"),
        "c.yaml:3: kafka.bootstrap_server: unknown key; did you mean kafka.bootstrap_servers?",
    ),
    "unknown section": (KAFKA + "dispach: {slots: 3}\n", "c.yaml:6: dispach: unknown key; did you mean dispatch?"),
    "misspelt section of the transport": (KAFKA.replace("kafka:", "kafkaa:"), "c.yaml:2: kafkaa: unknown key; did you mean kafka?"),
    "key in the wrong section": (MEMORY + "grace: 3\n", "c.yaml:2: grace: unknown key; did you mean shutdown.grace?"),
    "unknown key like no other": (MEMORY + "log: {colour: red}\n", "c.yaml:2: log.colour: unknown key; known here: level, format"),
    "unknown key of a route": (
        MEMORY + "routes:\n  a.b:\n    retry: {attempt: 1}\n",
        "c.yaml:4: routes.a.b.retry.attempt: unknown key; did you mean routes.a.b.retry.attempts?",
    ),
    "no whole number": (MEMORY + "ops: {port: high}\n", "c.yaml:2: ops.port: must be a whole number"),
    "no number": (MEMORY + "retry:\n  first: 1s\n", "c.yaml:3: retry.first: must be a number"),
    "no finite number": (MEMORY + "retry: {max: .inf}\n", "c.yaml:2: retry.max: must be a finite number"),
    "too small": (MEMORY + "gate: {failures: 0}\n", "c.yaml:2: gate.failures: must be at least 1"),
    "too large": (MEMORY + "retry: {jitter: 2}\n", "c.yaml:2: retry.jitter: must be at most 1"),
    "not positive": (MEMORY + "shutdown: {grace: 0}\n", "c.yaml:2: shutdown.grace: must be greater than 0"),
    "no text": (KAFKA.replace("investsuite.events", "12"), "c.yaml:4: kafka.topic: must be a text; put it in quotes"),
    "empty text": (KAFKA.replace("bank", '""'), "c.yaml:5: kafka.group: must not be empty"),
    "no list": (MEMORY + "handlers: {a: b}\n", "c.yaml:2: handlers: must be a list: [a, b]"),
    "empty list": (KAFKA.replace('["localhost:9092"]', "[]"), "c.yaml:3: kafka.bootstrap_servers: must name at least one"),
    "broker without port": (
        KAFKA.replace('["localhost:9092"]', "\n  - k1:9092\n  - k2"),
        "c.yaml:5: kafka.bootstrap_servers.1: must be host:port, or several of them",
    ),
    "no boolean": (MEMORY + "store: {dedup: 7}\n", "c.yaml:2: store.dedup: must be true or false"),
    "no section": (MEMORY + "retry: 5\n", "c.yaml:2: retry: must be a section of keys"),
    "none of the words": (MEMORY + "log: {level: loud}\n", "c.yaml:2: log.level: must be debug, info, warning or error"),
    "key missing": (
        KAFKA.replace("  topic: investsuite.events\n", ""),
        "c.yaml:2: kafka.topic: is missing; set it, or INVESTBUS_KAFKA__TOPIC",
    ),
    "section missing": (
        "transport: kafka\n",
        'c.yaml: kafka: section is missing; transport is "kafka"; it needs bootstrap_servers, topic, group',
    ),
    "nothing at all": ("", 'c.yaml: file: section is missing; transport is "file", the default; it needs path'),
    "unknown transport": ("transport: kafak\n", 'c.yaml:1: transport: "kafak" is unknown; did you mean kafka?'),
    "unheard-of transport": (
        "transport: zmq\n",
        'c.yaml:1: transport: "zmq" is unknown; known: kafka, rabbitmq, servicebus, file, memory',
    ),
    "half of a rabbitmq": (
        "transport: rabbitmq\nrabbitmq: {cert_file: x}\n",
        "c.yaml:2: rabbitmq.queue: is missing; set it, or INVESTBUS_RABBITMQ__QUEUE",
        "c.yaml:2: rabbitmq.url: is missing; it names the broker: amqps://user:password@host/vhost; set it or url_file",
        "c.yaml:2: rabbitmq.key_file: is missing; cert_file needs it",
        "c.yaml:2: rabbitmq.cert_file: x: cannot be read: No such file or directory",
    ),
    "half of a servicebus": (
        "transport: servicebus\nservicebus: {topic: t}\n",
        "c.yaml:2: servicebus.connection_string: is missing; set it or connection_string_file, or namespace for Entra ID",
        "c.yaml:2: servicebus.subscription: is missing; set topic and subscription, or queue",
    ),
    "two servicebuses": (
        "transport: servicebus\nservicebus: {connection_string: Endpoint=sb://b;SharedAccessSignature=k, "
        "namespace: n, queue: q, topic: t}\n",
        "c.yaml:2: servicebus.namespace: stands together with a connection string; keep one of them",
        "c.yaml:2: servicebus.queue: stands together with topic or subscription; keep the one that is consumed",
    ),
    "unknown dialect": (MEMORY + "dialect: invest\n", 'c.yaml:2: dialect: "invest" is unknown; did you mean investsuite?'),
    "duplicate key": (KAFKA + "  topic: other\n", "c.yaml:6: kafka.topic: stands twice, first at c.yaml:4; remove one of them"),
    "key that is no text": (MEMORY + "on: 1\n", "c.yaml:2: on: is no text; put it in quotes"),
    "bad YAML": ("kafka: {topic: [a\n", "c.yaml:2:1: is no YAML: expected ',' or ']', but got '<stream end>'"),
    "foreign tag": (
        MEMORY + "log: !python/name:os.system x\n",
        "c.yaml:2:6: is no YAML: could not determine a constructor for the tag '!python/name:os.system'",
    ),
    "control character": ("transport: memory\nlog: \x01\n", "c.yaml:2: is no YAML: a control character stands there"),
    "section inside itself": ("a: &a\n  b: *a\n", "c.yaml:2: a.b: refers to a section that it is itself part of"),
    "a list": ("- transport\n", "c.yaml:1: sections are needed here, such as kafka: and store:"),
    "secret and twin": (
        MEMORY + "api:\n  base_url: https://x\n  access_key_id: s3cr3t\n  access_key_id_file: s\n  secret_access_key: s3cr3t\n",
        "c.yaml:4: api.access_key_id: stands together with access_key_id_file; keep one of them",
    ),
    "secret file missing": (
        MEMORY + "api:\n  base_url: https://x\n  access_key_id_file: nope\n  secret_access_key_file: s\n",
        "c.yaml:4: api.access_key_id_file: nope: cannot be read: No such file or directory",
    ),
    "secret file empty": (
        MEMORY + "api:\n  base_url: https://x\n  access_key_id_file: empty\n  secret_access_key_file: s\n",
        "c.yaml:4: api.access_key_id_file: empty: is empty",
    ),
    "login without key": (
        MEMORY + "api:\n  base_url: https://x\n  access_key_id: a\n",
        "c.yaml:2: api.secret_access_key: is missing; the login needs it; set it or secret_access_key_file",
    ),
    "credentials in the URL": (
        MEMORY + "api: {base_url: https://mw:s3cr3t@x, access_key_id_file: s, secret_access_key_file: s}\n",
        "c.yaml:2: api.base_url: must be https://HOST or https://HOST/PATH, without user, query or fragment",
    ),
    "credentials in the proxy": (
        MEMORY + "api: {base_url: https://x, proxy: 'http://mw:s3cr3t@x:1', access_key_id_file: s, secret_access_key_file: s}\n",
        "c.yaml:2: api.proxy: must be http://HOST:PORT, without user, path or query",
    ),
    "SASL without mechanism": (
        KAFKA + "  security: {protocol: SASL_SSL}\n",
        "c.yaml:6: kafka.security.mechanism: is missing; protocol SASL_SSL needs one, such as SCRAM-SHA-512",
    ),
    "mechanism without SASL": (
        KAFKA + "  security:\n    mechanism: PLAIN\n",
        "c.yaml:7: kafka.security.mechanism: has no effect with protocol PLAINTEXT; use SASL_SSL, or leave it out",
    ),
    "mechanism without password": (
        KAFKA + "  security: {protocol: SASL_SSL, mechanism: PLAIN, username: mw}\n",
        "c.yaml:6: kafka.security.password: is missing; PLAIN needs it; set it or password_file",
    ),
    "bad store": (
        MEMORY + "store: {url: state.db}\n",
        "c.yaml:2: store.url: must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE",
    ),
    "store with a space in its password": (
        MEMORY + "store: {url: 'postgresql://mw:s3cr3t s3cr3t@db/x'}\n",
        "c.yaml:2: store.url: must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE",
    ),
    "store of an empty file": (MEMORY + "store: {url_file: empty}\n", "c.yaml:2: store.url_file: empty: is empty"),
    "store twice": (
        MEMORY + "store: {url: 'postgresql://mw:s3cr3t@db/x', url_file: s}\n",
        "c.yaml:2: store.url: stands together with url_file; keep one of them",
    ),
}
# name: (file, environment, flags, lines on stderr)
AROUND_IT: dict[str, tuple[Any, ...]] = {
    "secret and twin in two places": (
        MEMORY + "api: {base_url: https://x, access_key_id_file: s, secret_access_key_file: s}\n",
        {"INVESTBUS_API__ACCESS_KEY_ID": "s3cr3t"},
        [],
        "INVESTBUS_API__ACCESS_KEY_ID: api.access_key_id: stands together with access_key_id_file; keep one of them",
    ),
    "variable with one underscore": (
        KAFKA,
        {"INVESTBUS_KAFKA_TOPIC": "x"},
        [],
        "INVESTBUS_KAFKA_TOPIC: unknown variable; did you mean INVESTBUS_KAFKA__TOPIC?",
    ),
    "misspelt variable": (
        KAFKA,
        {"INVESTBUS_KAFKA__SECURITY__PASWORD": "s3cr3t"},
        [],
        "INVESTBUS_KAFKA__SECURITY__PASWORD: unknown variable; did you mean INVESTBUS_KAFKA__SECURITY__PASSWORD?",
    ),
    "variable like no other": (
        MEMORY,
        {"INVESTBUS_XYZZY": "s3cr3t"},
        [],
        "INVESTBUS_XYZZY: unknown variable; no setting has such a name",
    ),
    "variable of a transport that is only half set": (
        MEMORY,
        {"INVESTBUS_RABBITMQ__URL": "s3cr3t"},
        [],
        "c.yaml: rabbitmq.queue: is missing; set it, or INVESTBUS_RABBITMQ__QUEUE",
    ),
    "variable of a Kubernetes Service": (
        MEMORY,
        {"INVESTBUS_SERVICE_HOST": "10.0.0.1"},
        [],
        "INVESTBUS_SERVICE_HOST: is no setting but of a Kubernetes Service; the pod needs enableServiceLinks: false",
    ),
    "wrong type in a variable": (
        MEMORY,
        {"INVESTBUS_OPS__PORT": "s3cr3t"},
        [],
        "INVESTBUS_OPS__PORT: ops.port: must be a whole number",
    ),
    "no JSON in a variable": (
        MEMORY,
        {"INVESTBUS_RETRY": "s3cr3t"},
        [],
        'INVESTBUS_RETRY: must be a section as JSON, such as {"key": "value"}',
    ),
    "no JSON list in a variable": (
        MEMORY,
        {"INVESTBUS_HANDLERS": "[s3cr3t"},
        [],
        "INVESTBUS_HANDLERS: handlers: must be a list: [a, b]",
    ),
    "flag over a wrong file": (
        MEMORY + "handlers: [a, '']\n",
        {},
        ["--set", "handlers=a,b", "--set", "ops.port=x"],
        "--set: ops.port: must be a whole number",
    ),
    "flag over a list of the file": (
        KAFKA,
        {},
        ["--set", "kafka.bootstrap_servers=k1"],
        "--set: kafka.bootstrap_servers.0: must be host:port, or several of them",
    ),
    "unknown flag": (MEMORY, {}, ["--set", "ops.prot=1"], "--set: ops.prot: unknown key; did you mean ops.port?"),
    "unknown section in a flag": (MEMORY, {}, ["--set", "op=1"], "--set: op: unknown key; did you mean ops?"),
    "flag without value": (MEMORY, {}, ["--set", "ops.port"], "--set ops.port: write it as key=value, such as --set ops.port=9465"),
    "several": (
        MEMORY + "ops: {port: a}\nlog: {level: b}\nlogs: 1\n",
        {"INVESTBUS_LOGS": "1"},
        ["--set", "shutdown.grace=x"],
        "INVESTBUS_LOGS: unknown variable; did you mean INVESTBUS_LOG?",
        "c.yaml:4: logs: unknown key; did you mean log?",
        "c.yaml:2: ops.port: must be a whole number",
        "--set: shutdown.grace: must be a number",
        "c.yaml:3: log.level: must be debug, info, warning or error",
    ),
}
WRONG = {name: (text, {}, [], list(lines)) for name, (text, *lines) in IN_THE_FILE.items()} | {
    name: (text, env, flags, lines) for name, (text, env, flags, *lines) in AROUND_IT.items()
}


@pytest.mark.parametrize(("text", "env", "flags", "lines"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_line_with_place_key_and_remedy(
    text: str,
    env: Mapping[str, str],
    flags: list[str],
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("k3y", "s")
    write("", "empty")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert main(["config", "show", "-c", str(write(text)), *flags]) == 2
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == ("", lines)
    assert not [word for word in ("s3cr3t", "Traceback", "Input should", "Value error", "pydantic") if word in err]


@pytest.mark.parametrize("case", ["unknown key", "bad YAML", "misspelt variable"])
def test_the_command_itself_answers_a_mistake(case: str, record_property: Callable[[str, object], None]) -> None:
    text, env, flags, lines = WRONG[case]
    began = time.monotonic()
    done = subprocess.run(
        [Path(sys.executable).with_name("investbus"), "config", "show", "-c", write(text), *flags],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    record_property("seconds", time.monotonic() - began)  # a wish, not a law: below 1 on an idle machine
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (2, "", lines)


@pytest.mark.parametrize(
    ("path", "env", "line"),
    [
        ("no.yaml", {}, "no.yaml: there is no such file, -c names it"),
        (None, {"INVESTBUS_CONFIG": "no.yaml"}, "no.yaml: there is no such file, INVESTBUS_CONFIG names it"),
        (".", {}, ".: cannot be read: Is a directory"),
        ("latin.yaml", {}, "latin.yaml: is no text in UTF-8"),
        (None, {}, 'file: section is missing; transport is "file", the default; it needs path'),
        (None, {"INVESTBUS_FILE__PTH": "x"}, "INVESTBUS_FILE__PTH: unknown variable; did you mean INVESTBUS_FILE__PATH?"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(path: str | None, env: dict[str, str], line: str) -> None:
    Path("latin.yaml").write_bytes("log: {level: ä}".encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        load(Path(path) if path else None, (), env)
    assert caught.value.lines == (line,)


def test_secret_files_of_a_transport_that_is_not_chosen_are_left_alone() -> None:
    text = KAFKA.replace("transport: kafka", "transport: memory") + "  security: {password_file: nope}\n"
    assert load(write(text), (), {}).settings.kafka is not None


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"retry": {"attempt": 2}}, "retry.attempt: unknown key; did you mean retry.attempts?"),
        ({"retry": {"attempts": 0}}, "retry.attempts: must be at least 1"),
        ({"dispach": {}}, "dispach: unknown key; did you mean dispatch?"),
        ({"dialect": "invest"}, 'dialect: "invest" is unknown; did you mean investsuite?'),
    ],
)
async def test_settings_of_the_fixture_are_told_in_the_same_words(given: dict[str, Any], line: str, bus: Bus) -> None:
    bus.use(Router(), settings=given)
    with pytest.raises(ConfigError) as caught:
        await bus.send("a.b", {})
    assert caught.value.lines == (f"bus.use(settings=...): {line}",)


@given(st.text(alphabet=st.sampled_from("ab:{}[]-&*!|>'\"%@`#,? \n\t\x00\x85é\ud7ff1."), max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_is_a_configuration_or_a_list_of_mistakes(text: str) -> None:
    with pytest.raises(ConfigError) as caught:  # none of these texts can hold the path that transport file needs
        load(write(text, "fuzz.yaml"), (), {})
    assert all(line.startswith("fuzz.yaml") and "\n" not in line for line in caught.value.lines)
