"""Turns itself into a server that dies with the process that started it.

Run as a script, by path, with nothing but the standard library:

    python -I -S launch.py PARENT_PID LIFELINE PROGRAM [ARGUMENT...]

LIFELINE is -1 on Linux, where the kernel kills the server when its parent is gone, or else the
read end of a pipe of which the parent holds the write end, watched by a small process. The pid
stays the same, so that the caller signals the server itself.

A hook that runs between fork and exec inside the gateway would save this program, but Python code
may deadlock there when other threads hold locks.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)

# Descriptors that the launcher passes on lie below this, unless the gateway has more files open.
FD_LIMIT = 65_536


def main() -> None:
    """Arrange the death, then become the program."""
    parent, lifeline, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if lifeline < 0:
        _die_with(parent)
    else:
        _watch(lifeline)
    os.execv(command[0], command)  # noqa: S606 - the launcher names the program; no shell is wanted.


def _die_with(parent: int) -> None:
    # Imported here because the other way works on a Python that was built without it.
    import ctypes  # noqa: PLC0415

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # A parent that died before the call above sends no signal any more.
    if os.getppid() != parent:
        sys.exit("The process that asked for this server is gone.")


def _watch(lifeline: int) -> None:
    server = os.getpid()
    if os.fork() != 0:
        os.close(lifeline)
        return
    # The watcher must not hold what says that the server lives: its lock, its log, its input.
    os.closerange(0, lifeline)
    os.closerange(lifeline + 1, FD_LIMIT)
    os.read(lifeline, 1)  # Returns at the end of the pipe: nobody ever writes.
    # A server that is gone has left the watcher to another parent, and its pid to anybody.
    if os.getppid() == server:
        os.kill(server, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
