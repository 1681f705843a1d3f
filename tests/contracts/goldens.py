"""`python -m tests.contracts.goldens`: write the golden body of every fact that has none, from its example."""

import sys
from pathlib import Path

from contracts.wire import encode
from tests.contracts.examples import BY_NAME

GOLDEN = Path(__file__).parent / "golden"


def write(folder: Path = GOLDEN) -> list[str]:
    """Write the missing bodies into `<fact>.json`; return the facts' names. A body that is there is never changed."""
    missing = [name for name in BY_NAME if not (folder / f"{name}.json").exists()]
    for name in missing:
        (folder / f"{name}.json").write_bytes(encode(BY_NAME[name]))
    return missing


if __name__ == "__main__":
    sys.stdout.write("".join(f"written: {name}\n" for name in write()) or "no body is missing\n")
