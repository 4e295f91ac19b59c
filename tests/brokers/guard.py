"""Run a program that dies with the process that started it: `python guard.py PARENT_PID PROGRAM ARGUMENT...`

A process can ask this of the kernel only for itself, and the request outlives `exec`. It is a program of its own
because the other way, code between fork and exec, is unsafe in a test process full of client threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    os.execvp(program[0], program)  # noqa: S606 - becoming that program is what this is for
