"""What a proven archive has, so that nothing of it is published or made again, whatever the broker lost.

There is no archive yet: its manifest will say.
"""

from infra.settings import Settings


def archived_until(_settings: Settings, _service: str) -> int:
    """Return the position up to which an archive has the service's log, that one included; 0: it has nothing."""
    return 0


def first_kept(_settings: Settings) -> int:
    """Return the number of the first generation that no archive has: only earlier ones may be gone."""
    return 0
