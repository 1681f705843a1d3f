"""`just roll`: restart every service of the running `just up` in turn, under load.

It starts the code that is in the folder now, with the settings that `just up` was started with. A service that does not
run comes first; if another program has its port, it is left out. A running service is restarted only while all others
are ready. The roll ends with the first service that does not come back ready: the others stay as they are. The stream's
keeper and the dashboard come last; the broker is not restarted. Ctrl-C ends the roll after the service that is being
restarted; if that is the last one, keeper and dashboard still follow.

`just up` holds the listening sockets: a new connection waits for the new process. On an open one, a request that is
being answered gets its answer, and one more request its own, with `Connection: close`. A service that ends may answer
503 with Retry-After, as may one without a session with the broker for 5 s. docs/operating.md has each request.

Exit codes: 0 all are restarted; 1 not all: the roll ended early or left one out, another one is going on, or `just up`
is still starting or of another version; 2 wrong usage or setting; 3 `just up` does not run with this DATA_DIR, or has
ended meanwhile; 130 Ctrl-C.
"""

import os
import signal
import sys
from typing import Final

from infra import signals
from infra.local.control import NotRunning, ask
from infra.local.settings import without_blanks
from infra.printable import printable
from infra.settings import SettingsError
from infra.usage import EXIT_USAGE, take_no_arguments

ROLL: Final = "roll"
"""The request that `just up` takes."""
EXIT_STOPPED: Final = 1
EXIT_UNREACHABLE: Final = 3
EXIT_INTERRUPTED: Final = 130


def main() -> int:
    take_no_arguments(str(__doc__))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signals.release()
    try:
        for told in ask(without_blanks(os.environ), ROLL):
            output = sys.stderr if told.code else sys.stdout
            output.write(f"{printable(told.text)}\n")
            output.flush()
            if told.code is not None:
                return told.code
    except NotRunning as error:
        sys.stderr.write(f"{printable(str(error))}; start it with `just up`\n")
        return EXIT_UNREACHABLE
    except SettingsError as error:
        sys.stderr.write(f"{printable(str(error))}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        sys.stderr.write("stopped: the service that is being restarted comes back, no other is restarted\n")
    return EXIT_INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
