"""`python -m infra.start MODULE ARGUMENTS...`: run a module as a program that no early signal ends half started.

`python -m infra.start --service NAME` runs the service in the package NAME_svc; NAME may end with `_svc`, too. SIGTERM,
SIGINT and SIGHUP wait until the module calls `infra.signals.release`. Only before this file runs, in the interpreter's
first hundredth of a second, does a signal end the process as usual, with exit code 143, 130 or 129; nothing has begun
then.
"""

from infra import signals

signals.hold()  # before everything else is imported, which takes most of the start

import importlib.util  # noqa: E402
import pkgutil  # noqa: E402
import runpy  # noqa: E402
import sys  # noqa: E402

from infra.usage import EXIT_USAGE, HELP, take_no_arguments  # noqa: E402

SERVICE = "usage: NAME\n\nRun one service until SIGTERM or Ctrl-C: that of the package NAME_svc."


def main() -> None:
    module, *arguments = sys.argv[1:] or HELP[:1]
    if module == "--service":
        if not arguments:
            sys.stderr.write("name the service: `just service NAME` runs that of the package NAME_svc\n")
            raise SystemExit(EXIT_USAGE)
        if arguments[0] in HELP:
            take_no_arguments(SERVICE, HELP)
        module = f"{arguments.pop(0).removesuffix('_svc')}_svc"
        if not module.isidentifier() or importlib.util.find_spec(module) is None:
            # Imported only here: no start waits for it.
            there = ", ".join(pkgutil.resolve_name("infra.local.services:service_names")())
            sys.stderr.write(f"there is no service here that is the package {module!a}; the services are: {there}\n")
            raise SystemExit(EXIT_USAGE)
    elif module in HELP:
        take_no_arguments(str(__doc__), HELP)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
