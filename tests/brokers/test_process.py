"""What a broker process promises before it is a broker: it never outlives the tests, and never shares a folder or a port."""

import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.brokers.process import TEST_PORTS, Process, free_port

ROOT = Path(__file__).parents[2]
USERS = ("", "nobody") if os.geteuid() == 0 else ("",)  # only root may start a program as somebody else
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
STARTER = """
import sys, time
from pathlib import Path
from tests.brokers.process import Process
child = Process("sleeper", ["sleep", "60"], Path(sys.argv[1]), user=sys.argv[2] or None)
child.start(lambda: True)
print(child.pid, flush=True)
time.sleep(60)
"""
FORKING = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    print("fork", os.getpid(), flush=True)
time.sleep(60)
"""
PAUSER = """
import sys, time
from pathlib import Path
from tests.brokers.process import Process
process = Process("forking", [sys.executable, "-c", sys.argv[1]], Path(sys.argv[2]))
process.start(lambda: "fork" in process.log.read_text())
process.pause()
print(process.log.read_text().split()[1], flush=True)
time.sleep(60)
"""
LESSEE = """
from tests.brokers import process
process.TEST_PORTS = range(process.TEST_PORTS.start, process.TEST_PORTS.start + 100)
print(*[process.free_port() for _ in range(40)])
"""


def sleeper(folder: Path) -> Process:
    return Process("sleeper", ["sleep", "60"], folder)


def state(pid: int) -> str:
    """The kernel's letter for it: S asleep, T stopped, Z ended and not yet fetched; empty when gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def eventually(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5.0
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


@pytest.mark.parametrize("user", USERS)
def test_a_child_dies_with_the_test_process_even_if_that_is_killed(tmp_path: Path, user: str) -> None:
    script = [sys.executable, "-c", STARTER, str(tmp_path), user]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True, cwd=ROOT) as starter:
        assert starter.stdout is not None
        child = int(starter.stdout.readline())
        is_asleep = eventually(lambda: name(child) == "sleep" and state(child) == "S")
        owner = Path(f"/proc/{child}").stat().st_uid
        starter.send_signal(signal.SIGKILL)
    assert is_asleep
    assert owner == (pwd.getpwnam(user).pw_uid if user else os.geteuid())
    assert eventually(lambda: state(child) in ("", "Z"))


def test_one_folder_takes_one_process(tmp_path: Path) -> None:
    first, second = sleeper(tmp_path), sleeper(tmp_path)
    first.start(lambda: True)
    try:
        with pytest.raises(RuntimeError, match="another sleeper runs here"):
            second.start(lambda: True)
    finally:
        first.kill()
    second.start(lambda: True)
    second.kill()


def test_a_started_process_is_not_started_again(tmp_path: Path) -> None:
    process = sleeper(tmp_path)
    process.start(lambda: True)
    try:
        with pytest.raises(RuntimeError, match="is running already"):
            process.start(lambda: True)
    finally:
        process.kill()


def test_a_thread_may_not_start_what_would_die_with_it(tmp_path: Path) -> None:
    process, refused = sleeper(tmp_path), []

    def start() -> None:
        with pytest.raises(RuntimeError, match="main thread") as error:
            process.start(lambda: True)
        refused.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert refused
    assert not process.running


def test_stop_is_heard_by_a_paused_process_and_forced_on_a_deaf_one(tmp_path: Path) -> None:
    paused, deaf = sleeper(tmp_path / "paused"), Process("deaf", [sys.executable, "-c", DEAF], tmp_path / "deaf")
    paused.start(lambda: True)
    deaf.start(lambda: "deaf" in deaf.log.read_text())
    paused.pause()
    assert eventually(lambda: state(paused.pid) == "T")
    began = time.monotonic()
    paused.stop(grace=10.0)
    assert time.monotonic() - began < 5.0
    deaf.stop(grace=0.2)
    assert (paused.running, deaf.running) == (False, False)


def test_a_fork_in_a_session_of_its_own_is_paused_and_killed_with_its_program(tmp_path: Path) -> None:
    process = Process("forking", [sys.executable, "-c", FORKING], tmp_path)
    process.start(lambda: "fork" in process.log.read_text())
    fork = int(process.log.read_text().split()[1])
    process.pause()
    assert eventually(lambda: state(fork) == "T")
    process.resume()
    assert eventually(lambda: state(fork) == "S")
    process.pause()
    process.kill()
    assert state(fork) in ("", "Z")


def test_a_paused_fork_dies_with_the_test_process_too(tmp_path: Path) -> None:
    script = [sys.executable, "-c", PAUSER, FORKING, str(tmp_path)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True, cwd=ROOT) as starter:
        assert starter.stdout is not None
        fork = int(starter.stdout.readline())
        assert eventually(lambda: state(fork) == "T")
        starter.send_signal(signal.SIGKILL)
    assert eventually(lambda: state(fork) in ("", "Z"))


def test_it_is_stopped_by_the_signal_that_its_program_wants(tmp_path: Path) -> None:
    deaf = Process("deaf to SIGTERM", [sys.executable, "-c", DEAF], tmp_path, stop_signal=signal.SIGINT)
    deaf.start(lambda: "deaf" in deaf.log.read_text())
    began = time.monotonic()
    deaf.stop(grace=10.0)
    assert time.monotonic() - began < 5.0
    assert not deaf.running
    assert "KeyboardInterrupt" in deaf.log.read_text()


def test_it_gets_the_environment_that_was_given_and_no_other(tmp_path: Path) -> None:
    process = Process("env", ["sh", "-c", "env; sleep 60"], tmp_path, env={"PATH": os.environ["PATH"], "COLOUR": "red"})
    process.start(lambda: "COLOUR=red" in process.log.read_text())
    process.kill()
    assert "HOME=" not in process.log.read_text()


def test_a_failed_start_says_why_and_leaves_nothing_running(tmp_path: Path) -> None:
    process = Process("fail", ["sh", "-c", "echo no space left; echo '  at frame'; exit 1"], tmp_path)
    with pytest.raises(RuntimeError, match=r"fail ended while starting: no space left \(all of it in .*output\.log\)"):
        process.start(lambda: False)
    never = sleeper(tmp_path)
    with pytest.raises(TimeoutError, match=r"sleeper was not ready within 0\.1 s"):
        never.start(lambda: False, limit=0.1)
    assert not never.running


def test_a_leased_port_is_passed_by_in_every_test_process(monkeypatch: pytest.MonkeyPatch) -> None:
    few = range(TEST_PORTS.start, TEST_PORTS.start + 100)
    monkeypatch.setattr("tests.brokers.process.TEST_PORTS", few)
    ours = {free_port() for _ in range(40)}
    theirs = subprocess.run([sys.executable, "-c", LESSEE], capture_output=True, text=True, check=True, cwd=ROOT)
    assert len(ours) == 40
    assert ours <= set(few)
    assert ours.isdisjoint(map(int, theirs.stdout.split()))
