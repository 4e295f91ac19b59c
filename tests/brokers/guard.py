"""Run a program that dies with the process that started it: `python guard.py PARENT_PID [--user NAME] PROGRAM ARGUMENT...`

A process can ask this of the kernel only for itself, and the request outlives `exec`. It is a program of its own
because the other way, code between fork and exec, is unsafe in a test process full of client threads.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if program[0] == "--user":  # before the request, which a change of user would undo
        user, program = pwd.getpwnam(program[1]), program[2:]
        os.get_exec_path()  # imports what execvp needs, while we may still read our own Python
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    os.execvp(program[0], program)  # noqa: S606 - becoming that program is what this is for
