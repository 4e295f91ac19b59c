"""RabbitMQ as a child process, with an Erlang port mapper of its own beside it."""

import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.brokers.missing import Missing
from tests.brokers.process import LOOPBACK, Process, free_port
from tests.brokers.rabbitmq_access import Access, Tls
from tests.brokers.rabbitmq_settings import PASSWORD, USER, Options, Ports, configuration, environment, plugins
from tests.brokers.tls import make_certificates

PROGRAMS = Path("/usr/lib/rabbitmq/bin")  # those on the PATH change the user by `su`, and are not the server's parent then


class RabbitMqProcess:
    """Started a second time it comes up on the same ports with the same data, as after a crash of its machine."""

    controllable = True

    def __init__(self, folder: Path, options: Options) -> None:
        epmd = _programs()
        self._folder = folder
        self._options = options
        self._ports = Ports(*(free_port() for _ in range(6)))
        self._env = environment(folder, self._ports, options)
        self._certificates = make_certificates(folder / "tls")
        self.access = self._access()
        mapper = [epmd, "-port", str(self._ports.epmd), "-address", LOOPBACK]
        self._epmd = Process("epmd", mapper, folder / "epmd", env=self._env)
        self._process = Process("RabbitMQ", [str(PROGRAMS / "rabbitmq-server")], folder, env=self._env)

    @property
    def running(self) -> bool:
        return self._process.running

    def start(self, ready: Callable[[], bool]) -> None:
        self._configure()
        if not self._epmd.running:
            self._epmd.start(self._mapper_answers)
        self._process.start(ready)

    def stop(self) -> None:
        self._process.stop()

    def kill(self) -> None:
        self._process.kill()

    def pause(self) -> None:
        self._process.pause()

    def resume(self) -> None:
        self._process.resume()

    def close(self) -> None:
        self._process.stop()
        self._epmd.stop()

    def _access(self) -> Access:
        address, made = f"{USER}:{PASSWORD}@{LOOPBACK}", self._certificates
        return Access(
            url=f"amqp://{address}:{self._ports.amqp}/",
            ctl=self._ctl,
            tls=Tls(f"amqps://{address}:{self._ports.tls}/", made.ca, made.client_cert, made.client_key),
            management_url=f"http://{LOOPBACK}:{self._ports.management}" if self._options.management else None,
        )

    def _ctl(self, *words: str) -> str:
        command = [str(PROGRAMS / "rabbitmqctl"), "--quiet", "--node", self._ports.node, *words]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {words[0]}: {' '.join((done.stderr or done.stdout).split())}")
        return done.stdout

    def _configure(self) -> None:
        cookie = self._folder / "home" / ".erlang.cookie"  # whoever knows it may run code in the node
        if not cookie.exists():
            cookie.parent.mkdir(parents=True)
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)
        settings = configuration(self._folder, self._ports, self._options, self._certificates)
        self._folder.joinpath("rabbitmq.conf").write_text(settings)
        self._folder.joinpath("enabled_plugins").write_text(plugins(self._options))

    def _mapper_answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, self._ports.epmd)) == 0


def _programs() -> str:
    """The path of epmd. Raises Missing."""
    epmd = shutil.which("epmd")
    if epmd is None:
        raise Missing("RabbitMQ: there is no epmd, Erlang's port mapper")
    if not (PROGRAMS / "rabbitmq-server").exists():
        raise Missing(f"RabbitMQ: there is no {PROGRAMS / 'rabbitmq-server'}")
    return epmd
