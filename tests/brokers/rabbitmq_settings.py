"""What a RabbitMQ node of the lab is told: its files, and the environment that it shares with `rabbitmqctl`.

Left to itself it listens on every address, and starts a port mapper (epmd) there that outlives it. So each of its five
listeners is named here, and the mapper is a process of the lab.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.brokers.process import LOOPBACK
from tests.brokers.tls import Certificates

USER, PASSWORD = "app", "app-secret"
MEMORY = "512MB"  # under this alarm a publisher is blocked
LOCAL_ONLY = f"-start_epmd false -kernel inet_dist_use_interface {{{LOOPBACK.replace('.', ',')}}}"


@dataclass(frozen=True)
class Options:
    """What a node may have beyond the common one. Whoever asks for any gets a process of our own."""

    consumer_timeout: float | None = None  # seconds until the channel of a consumer that does not ack is closed; None: 30 min
    management: bool = False  # the HTTP API; stopping then takes 6 s instead of 1
    require_client_certificate: bool = False  # on the TLS listener


@dataclass(frozen=True)
class Ports:
    amqp: int
    tls: int
    management: int
    distribution: int
    epmd: int
    ctl: int

    @property
    def node(self) -> str:
        return f"investbus{self.amqp}@localhost"


def erlang_flags(options: Options) -> str:
    """Application settings for its command line, where a container takes them too."""
    flags = "+S 2:2 -rabbit quorum_tick_interval 250"  # how old the number of unacked messages may be
    if options.consumer_timeout is not None:
        milliseconds = round(options.consumer_timeout * 1000)
        flags += f" -rabbit consumer_timeout {milliseconds} -rabbit channel_tick_interval {min(milliseconds, 1000)}"
    return flags


def environment(folder: Path, ports: Ports, options: Options) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(folder / "home"),
        "ERL_CRASH_DUMP_SECONDS": "0",  # none, so that the last thing that it says is the reason
        "ERL_EPMD_PORT": str(ports.epmd),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "RUNNING_UNDER_SYSTEMD": "true",  # its script then becomes the server instead of starting it, and keeps the pid
        "RABBITMQ_NODENAME": ports.node,
        "RABBITMQ_NODE_PORT": str(ports.amqp),
        "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
        "RABBITMQ_DIST_PORT": str(ports.distribution),
        "RABBITMQ_CTL_DIST_PORT_MIN": str(ports.ctl),
        "RABBITMQ_CTL_DIST_PORT_MAX": str(ports.ctl),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONFIG_FILES": str(folder / "none" / "*.conf"),  # not those of this machine
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{LOCAL_ONLY} {erlang_flags(options)}",
        "RABBITMQ_CTL_ERL_ARGS": LOCAL_ONLY,
    }


def configuration(folder: Path, ports: Ports, options: Options, certificates: Certificates) -> str:
    settings = {
        "listeners.tcp.1": f"{LOOPBACK}:{ports.amqp}",
        "listeners.ssl.1": f"{LOOPBACK}:{ports.tls}",
        "ssl_options.cacertfile": certificates.ca,
        "ssl_options.certfile": certificates.server_cert,
        "ssl_options.keyfile": certificates.server_key,
        "ssl_options.verify": "verify_peer",  # whoever shows a certificate shows one of ours
        "ssl_options.fail_if_no_peer_cert": str(options.require_client_certificate).lower(),
        "default_user": USER,
        "default_pass": PASSWORD,
        "vm_memory_high_watermark.absolute": MEMORY,
        "disk_free_limit.absolute": "50MB",
        "log.file": folder / "log" / "rabbitmq.log",
        "log.console": "true",
        "log.console.level": "error",
    }
    if options.management:
        settings |= {"management.tcp.ip": LOOPBACK, "management.tcp.port": ports.management}
    return "".join(f"{name} = {value}\n" for name, value in settings.items())


def plugins(options: Options) -> str:
    return "[rabbitmq_management].\n" if options.management else "[].\n"
