"""A program: `python leash.py PARENT COMMAND...` becomes COMMAND, which ends when PARENT does.

A sweep that is killed outright must not leave runs behind that nobody watches: another worker
would begin the same run beside them. Linux tells the child (prctl, PR_SET_PDEATHSIG); it gets
SIGTERM, so that it can write a checkpoint. And where memory runs out, Linux shall end the command
rather than the sweep. Not imported by anything, and imports nothing slow.
"""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
FIRST_TO_GO = "1000"  # proc(5), oom_score_adj: -1000 to 1000; anybody may raise their own

if __name__ == "__main__":
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write(FIRST_TO_GO)
    # Slurm sends its warning to every process of a job; the sweep answers it, for all.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if os.getppid() != parent:
        sys.exit("The sweep has ended in the meantime.")
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}.")
