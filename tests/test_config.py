"""A configuration is put together from flags, environment, file and defaults, and knows which of them each value came from."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from investbus.config import Settings
from investbus.config_load import load
from investbus.config_rules import section
from investbus.errors import ConfigError

CONFIG = Path(__file__).parents[1] / "config"
MEMORY = "transport: memory\n"


@pytest.fixture(autouse=True)
def _bare_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "c.yaml") -> Path:
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


@pytest.mark.parametrize("present", list(itertools.product([False, True], repeat=3)))
def test_flag_beats_environment_beats_file_beats_default(present: tuple[bool, bool, bool]) -> None:
    flag, variable, file = present
    path = write(MEMORY + ("ops:\n  port: 1001\n" if file else ""))
    sets = ["ops.port=1003"] if flag else []
    env = {"INVESTBUS_OPS__PORT": "1002"} if variable else {}
    loaded = load(path, sets, env)
    expected = (
        (1003, "--set") if flag
        else (1002, "INVESTBUS_OPS__PORT") if variable
        else (1001, "c.yaml:3") if file
        else (9464, "default")
    )  # fmt: skip
    assert (loaded.settings.ops.port, loaded.origins["ops.port"]) == expected
    assert loaded.origins["ops.host"] == "default"


def test_the_file_is_the_flags_else_the_environments_else_the_folders() -> None:
    write(MEMORY + "ops: {port: 1}\n", "investbus.yaml")
    write(MEMORY + "ops: {port: 2}\n", "env.yaml")
    write(MEMORY + "ops: {port: 3}\n", "flag.yaml")
    env = {"INVESTBUS_CONFIG": "env.yaml"}
    assert [load(path, (), one).settings.ops.port for path, one in [(None, {}), (None, env), (Path("flag.yaml"), env)]] == [1, 2, 3]
    assert load(None, (), {"INVESTBUS_CONFIG": ""}).origins["ops.port"] == "investbus.yaml:2"


def test_the_environment_alone_is_enough() -> None:
    env = {
        "INVESTBUS_TRANSPORT": "kafka",
        "INVESTBUS_KAFKA": '{"topic": "a", "group": "g"}',
        "INVESTBUS_KAFKA__TOPIC": "b",
        "INVESTBUS_KAFKA__BOOTSTRAP_SERVERS": "k1:9092, k2:9092",
        "INVESTBUS_HANDLERS": '["a:b", "c:d"]',
        "INVESTBUS_ROUTES": '{"a.b": {"timeout": 3, "needs": ["api"]}}',
    }
    loaded = load(None, (), env)
    assert loaded.settings.kafka is not None
    assert (loaded.settings.kafka.topic, loaded.settings.kafka.group) == ("b", "g")
    assert loaded.settings.kafka.bootstrap_servers == ["k1:9092", "k2:9092"]
    assert loaded.settings.handlers == ["a:b", "c:d"]
    assert loaded.settings.routes["a.b"].needs == ["api"]
    assert (loaded.origins["kafka.topic"], loaded.origins["kafka.group"]) == ("INVESTBUS_KAFKA__TOPIC", "INVESTBUS_KAFKA")


def test_a_flag_reaches_single_settings_of_a_route() -> None:
    sets = ["routes.a.b.timeout=3", "routes.a.b.retry.attempts=7", "routes.*.*.dedup=false", "routes.default.needs=api,core"]
    routes = load(write(MEMORY), sets, {}).settings.routes
    assert (routes["a.b"].timeout, routes["a.b"].retry.attempts) == (3.0, 7)
    assert (routes["*.*"].dedup, routes["default"].needs) == (False, ["api", "core"])


def test_null_and_an_empty_section_mean_the_default() -> None:
    loaded = load(write(MEMORY + "retry:\nops: {port: null}\nkafka: null\n"), (), {}).settings
    assert (loaded.retry, loaded.ops.port, loaded.kafka) == (Settings().retry, 9464, None)


def test_anchors_and_merges_work() -> None:
    text = MEMORY + "routes:\n  a.b: &slow {timeout: 9}\n  c.d:\n    <<: *slow\n    dedup: false\n  e.f: *slow\n"
    loaded = load(write(text), (), {})
    assert [route.timeout for route in loaded.settings.routes.values()] == [9.0, 9.0, 9.0]
    assert loaded.origins["routes.c.d.dedup"] == "c.yaml:6"


def test_settings_made_in_code_do_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVESTBUS_OPS__PORT", "1")
    assert Settings().ops.port == 9464


# ---- the files that we ship


def tree_keys(tree: Mapping[str, Any], model: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, value in tree.items():
        inner, many = section(model.model_fields[name].annotation) if name in model.model_fields else (None, False)
        yield before + name
        if inner and many:
            (value,) = value.values()
        if inner:
            yield from tree_keys(value, inner, f"{before}{name}.")


def model_keys(model: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield before + name
        if inner := section(field.annotation)[0]:
            yield from model_keys(inner, f"{before}{name}.")


def test_the_example_has_every_key_in_the_order_of_the_models() -> None:
    tree = yaml.safe_load((CONFIG / "example.yaml").read_text())
    assert list(tree_keys(tree, Settings)) == list(model_keys(Settings))


def test_the_example_shows_defaults_unless_its_comment_says_otherwise() -> None:
    tree = yaml.safe_load((CONFIG / "example.yaml").read_text())
    plain = Settings.model_validate({name: tree[name] for name in ("gate", "dispatch", "retry", "ops", "shutdown", "log")})
    assert plain == Settings()
    store = Settings.model_validate({"store": tree["store"]}).store
    assert store == Settings().store.model_copy(update={"url": store.url})


def test_the_example_loads_where_its_secrets_are() -> None:
    text = (CONFIG / "example.yaml").read_text()
    for name in ("kafka", "api_id", "api_secret"):
        write("k3y", name)
    loaded = load(write(text.replace("/run/secrets/", "")), (), {}).settings
    assert loaded.kafka is not None
    assert loaded.kafka.security.secret("password") == "k3y"
    with pytest.raises(ConfigError) as caught:
        load(CONFIG / "example.yaml", (), {})
    assert [line.split(": ")[1] for line in caught.value.lines] == [
        "api.access_key_id_file", "api.secret_access_key_file", "kafka.security.password_file",
    ]  # fmt: skip


@pytest.mark.parametrize("path", sorted(set(CONFIG.glob("*.yaml")) - {CONFIG / "example.yaml"}), ids=lambda path: path.name)
def test_every_other_file_loads_as_it_is(path: Path) -> None:
    assert load(path, (), {}).settings.transport == path.stem
