"""Kill processes when the one that started this has died: `python warden.py PID...`, with a pipe from it as standard input.

For forks that are paused. They outlive a program that is killed, since they would have to run to notice, and the
kernel ends only the program (`guard.py`). Whoever wakes them ends this first.
"""

import os
import signal
import sys
from contextlib import suppress

if __name__ == "__main__":
    sys.stdin.read()  # ends when nobody holds the other end any more
    for pid in map(int, sys.argv[1:]):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
