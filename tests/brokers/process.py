"""A broker as a child process: its ports, its log, its signals.

A test run may end by SIGKILL, and then no fixture finalizer runs. So the kernel ends the child (`guard.py`), the
kernel frees its ports (abstract sockets) and the kernel unlocks its folder (`flock`): nothing here relies on being
cleaned up.
"""

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

LOOPBACK = "127.0.0.1"
TEST_PORTS = range(20001, 32768)  # below the range from which the kernel takes ports of outgoing connections
GUARD = Path(__file__).with_name("guard.py")
WARDEN = Path(__file__).with_name("warden.py")
ISOLATED = (sys.executable, "-I", "-S")  # starts in half the time, whatever the environment says


def free_port() -> int:
    """Lease a free port until this process ends; other test processes of this machine see the lease and pass it by."""
    for port in random.sample(TEST_PORTS, len(TEST_PORTS)):
        lease = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lease.bind(f"\0investbus-test-port-{port}")  # an abstract name: no file, gone with this process
            with socket.socket() as probe:
                probe.bind((LOOPBACK, port))
        except OSError:
            lease.close()
            continue
        lease.detach()  # stays open as long as this process lives
        return port
    raise RuntimeError(f"no free port from {TEST_PORTS.start} to {TEST_PORTS.stop - 1} on {LOOPBACK}")


def wait_until(
    ready: Callable[[], bool], limit: float, name: str, alive: Callable[[], bool], last_words: Callable[[], str]
) -> None:
    end = time.monotonic() + limit
    while not ready():
        if not alive():
            raise RuntimeError(f"{name} ended while starting: {last_words()}")
        if time.monotonic() > end:
            raise TimeoutError(f"{name} was not ready within {limit:g} s: {last_words()}")
        time.sleep(0.1)


class Process:
    """One program on one folder, started, stopped and killed any number of times; never two on the same folder."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """`user`: whom it runs as, for programs that refuse to be root; `env` in place of ours."""
        self.name = name
        self.log = folder / "output.log"
        self._argv = [*([] if user is None else ["--user", user]), *argv]
        self._folder = folder
        self._env = env
        self._stop_signal = stop_signal
        self._child: subprocess.Popen[bytes] | None = None
        self._warden: subprocess.Popen[bytes] | None = None  # while paused

    @property
    def pid(self) -> int:
        return self._alive().pid

    @property
    def running(self) -> bool:
        """True also while paused."""
        return self._child is not None and self._child.poll() is None

    def start(self, ready: Callable[[], bool], limit: float = 90.0) -> None:
        """Start and wait for `ready`: something that a client does. An open port alone says nothing."""
        if self.running:
            raise RuntimeError(f"{self.name} is running already (pid {self.pid})")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(f"start {self.name} from the main thread: it dies with the thread that starts it")
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked() as lock:
            self._child = self._spawn(lock)
        try:
            wait_until(ready, limit, self.name, lambda: self.running, self._last_words)
        except BaseException:
            self.kill()
            raise

    def stop(self, grace: float = 15.0) -> None:
        """End it politely, and after `grace` seconds by force. A paused one is woken first, or it would not hear."""
        if not self.running:
            return
        child = self._alive()
        self._resume(child)
        child.send_signal(self._stop_signal)
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """What a power cut does to it, and to whatever it has forked."""
        if self.running:
            child = self._alive()
            child.send_signal(signal.SIGSTOP)  # so that it neither forks more nor sees its forks die
            _signal(_forks(child), signal.SIGKILL)
            self._dismiss_warden()
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            self._locked(patience=10.0).close()  # its forks are gone when none of them holds the lock any more

    def pause(self) -> None:
        """Freeze it and its forks: its port and its connections stay open, and nothing answers."""
        child = self._alive()
        self._dismiss_warden()
        child.send_signal(signal.SIGSTOP)
        forks = _forks(child)
        warden = [*ISOLATED, str(WARDEN), *map(str, forks)]
        self._warden = subprocess.Popen(warden, stdin=subprocess.PIPE, start_new_session=True)
        _signal(forks, signal.SIGSTOP)

    def resume(self) -> None:
        self._resume(self._alive())

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            raise RuntimeError(f"{self.name} is not running")
        return self._child

    def _resume(self, child: subprocess.Popen[bytes]) -> None:
        self._dismiss_warden()
        _signal(_forks(child), signal.SIGCONT)
        child.send_signal(signal.SIGCONT)

    def _dismiss_warden(self) -> None:
        if self._warden is not None:
            with self._warden as warden:
                warden.kill()
            self._warden = None

    def _locked(self, patience: float = 0.0) -> IO[bytes]:
        """The lock of the folder. The child inherits it: held as long as the child lives, whatever becomes of us."""
        end = time.monotonic() + patience
        lock = (self._folder / ".lock").open("wb")
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except BlockingIOError:
                if time.monotonic() >= end:
                    lock.close()
                    raise RuntimeError(f"{self._folder}: another {self.name} runs here; give each its own folder") from None
            time.sleep(0.01)

    def _spawn(self, lock: IO[bytes]) -> subprocess.Popen[bytes]:
        guarded = [*ISOLATED, str(GUARD), str(os.getpid()), *self._argv]
        with self.log.open("ab") as output:
            return subprocess.Popen(
                guarded,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._env,
                start_new_session=True,  # Ctrl-C is for the tests, and a group of its own takes its forks along
                pass_fds=[lock.fileno()],
            )

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        telling = [line for line in lines if line.strip() and not line[0].isspace()]  # not the frames of a stack trace
        return f"{telling[-1] if telling else 'no output'} (all of it in {self.log})"


def _forks(child: subprocess.Popen[bytes]) -> list[int]:
    """PostgreSQL serves each client from a fork, in a process group of its own that a signal to ours would miss."""
    try:
        return [int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()]
    except FileNotFoundError:  # it has just ended by itself
        return []


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
