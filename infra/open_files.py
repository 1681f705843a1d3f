"""How many files and connections this process may have open."""

import resource
from typing import Final

PLENTY: Final = 65_536


def open_files(plenty: int = PLENTY) -> int:
    """Take as many as this process may without asking anybody, up to `plenty`; gives how many these are.

    A shell often lets what runs in it have 1,024, because of select(), which nobody here uses.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (plenty if limit == resource.RLIM_INFINITY else limit for limit in limits)
    most = max(soft, min(hard, plenty))
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    return most
