"""Becomes another program when its launcher allows it, and ends at once if the launcher ends before.

A launcher that is killed between the start of a process and telling the guard of it would leave the process running.
So it starts this program, tells the guard the process id, and only then writes a byte into the pipe whose reading end
is the first argument; the other arguments are the command.

This file is run without the packages of the project: it imports the standard library alone.
"""

import os
import signal
import sys


def main() -> None:
    pipe, command = int(sys.argv[1]), sys.argv[2:]
    allowed = os.read(pipe, 1)
    os.close(pipe)
    if allowed:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what follows would inherit that
        try:
            os.execv(command[0], command)  # noqa: S606
        except OSError as error:
            sys.exit(f"{command[0]} cannot be run: {error.strerror}")


if __name__ == "__main__":
    main()
