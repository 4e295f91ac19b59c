"""Every setting, its default and its meaning. Durations are seconds, sizes are bytes.

Read from flag, environment (`INVESTBUS_KAFKA__TOPIC`), file and default, in this order, by `investbus.config_load`. A secret has a
twin ending in `_file`; the file is read each time the secret is asked for, so that a rotated one is taken at the next login.
The docstring under a field is its line in the README's table and in the JSON Schema.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from investbus.config_bus import File, Kafka, Memory, RabbitMq, ServiceBus
from investbus.config_section import Count, Names, NotNegative, Positive, Section

ENV_PREFIX = "INVESTBUS_"


class Api(Section):
    base_url: str = Field(pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")
    """The platform's REST API. Calls never leave this host."""
    access_key_id: SecretStr | None = None
    """Login: key id."""
    access_key_id_file: Path | None = None
    """File that holds the key id."""
    secret_access_key: SecretStr | None = None
    """Login: key."""
    secret_access_key_file: Path | None = None
    """File that holds the key."""
    ca_file: Path | None = None
    """CA certificates in PEM; the system's if not set."""
    proxy: str | None = Field(default=None, pattern=r"^http://[^/?#@\s]+/?$")
    """HTTP proxy on the way to the platform, as `http://HOST:PORT`; never taken from the environment."""
    timeout: Positive = 10.0
    """One call, its own retries included."""
    concurrency: Count = 32
    """Calls under way at once."""
    settle: NotNegative = 30.0
    """For so long after an event a 404 means "not yet"."""
    idempotency_key_max: Count = 64
    """Longest idempotency key that the platform takes (Saxo: 10)."""


class GateSettings(Section):
    failures: Count = 3
    """So many failures in a row close the gate of a dependency."""
    probe_every: Positive = 5.0
    """While it is closed one event tries, once in so long."""
    retry_after_max: Positive = 600.0
    """Longest Retry-After that is believed."""


class Dispatch(Section):
    slots: Count = 64
    """Handlers that run at once."""
    backlog: Count = 2000
    """Events received and not finished; at this many nothing more is taken."""
    backlog_bytes: Count = 67108864
    """The same in bytes: bodies, and 2.5 kB for each event."""
    max_event_bytes: Count = 1048576
    """A larger body is a dead letter."""
    max_gap: Count = 20000
    """Positions between committed and highest received; at this many that partition pauses."""
    drain_cap: Positive = 10.0
    """How long running handlers may finish when a lease ends."""
    timeout: Positive = 20.0
    """One attempt of a handler."""
    unrouted: Literal["ignore", "dead"] = "ignore"
    """An event that no route takes."""


class Retries(Section):
    attempts: Count = 5
    """How often a handler is tried before its event is a dead letter."""
    first: Positive = 1.0
    """Wait after the first failure."""
    factor: Annotated[float, Field(ge=1)] = 3.0
    """Each wait is so many times the one before."""
    max: Positive = 60.0
    """Longest wait."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Up to this share is added to a wait, at random; never taken away."""


class RetryOverride(Section):
    attempts: Count | None = None
    """How often a handler is tried before its event is a dead letter."""
    first: Positive | None = None
    """Wait after the first failure."""
    factor: Annotated[float, Field(ge=1)] | None = None
    """Each wait is so many times the one before."""
    max: Positive | None = None
    """Longest wait."""
    jitter: Annotated[float, Field(ge=0, le=1)] | None = None
    """Up to this share is added to a wait, at random."""


class RouteOverride(Section):
    timeout: Positive | None = None
    """One attempt of the handler."""
    retry: RetryOverride = RetryOverride()
    """What is not set here is as in `retry`."""
    needs: Names | None = None
    """The gates at which its events wait."""
    dedup: bool | None = None
    """Skip events that were done before."""
    collapse: bool | None = None
    """Handle queued events of one key once, by the newest."""
    after_dead: Literal["continue", "park"] | None = None
    """park: when an event dies, later ones of its key wait in the store until it was replayed."""
    supersede: bool | None = None
    """A dead letter is obsolete once a later event about the same entity was done."""


class StoreSettings(Section):
    url: str | None = Field(None, pattern=r"^(sqlite:///.+|postgresql://\S+)$")
    """`sqlite:////var/lib/investbus/state.db`: one replica, local disk. `postgresql://user:password@host/database`: any number."""
    url_file: Path | None = None
    """File that holds the URL."""
    keep_done: Positive = 604800.0
    """For so long a repeated event is recognised."""
    keep_dead: Positive = 7776000.0
    """For so long dead letters are kept after they were closed; open ones stay."""
    dedup: bool = True
    """Skip events that were done before."""
    flood_after: Count = 50
    """So many dead letters in a row, of as many keys, pause the worker until `investbus resume`."""


class Ops(Section):
    host: str = "127.0.0.1"
    """Where probes, metrics and status are served."""
    port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """0: any free port, which is logged."""


class Shutdown(Section):
    grace: Positive = 25.0
    """How long running handlers may finish after SIGTERM."""


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lines below this level are not written."""
    format: Literal["auto", "json", "text"] = "auto"
    """auto: json unless a terminal."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but what is passed in: `config_load` reads file and environment, and knows the place of each value."""
        return (init_settings,)

    handlers: Names = []
    """Routers to load: `bank.events:router`, or the name of an entry point of group `investbus.handlers`."""
    transport: str = "file"
    """The bus: kafka, rabbitmq, servicebus, file or memory."""
    kafka: Kafka | None = None
    """With transport kafka."""
    rabbitmq: RabbitMq | None = None
    """With transport rabbitmq."""
    servicebus: ServiceBus | None = None
    """With transport servicebus."""
    file: File | None = None
    """With transport file."""
    memory: Memory = Memory()
    """With transport memory, which has no settings."""
    dialect: str = "investsuite"
    """How messages are read."""
    api: Api | None = None
    """The platform's REST API; without it `ctx.api` is not there."""
    gate: GateSettings = GateSettings()
    """When a dependency counts as down, and what is done until it is up."""
    dispatch: Dispatch = Dispatch()
    """How many events at once, and how long each."""
    retry: Retries = Retries()
    """wait n = min(first * factor^(n-1), max), plus up to jitter of it, never less."""
    routes: dict[str, RouteOverride] = {}
    """Settings of single routes; they win over the decorator's."""
    store: StoreSettings = StoreSettings()
    """Dead letters, and what was done."""
    ops: Ops = Ops()
    """Probes, metrics and status over HTTP."""
    shutdown: Shutdown = Shutdown()
    """The end of the worker."""
    log: Log = Log()
    """The worker's own log, on stderr."""
