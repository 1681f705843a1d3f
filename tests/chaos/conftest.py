"""Which disks can lose power here: that takes root and /dev/fuse, which may be missing, but not where all is wanted."""

import os

from tests.chaos.disk import can_mount

collect_ignore = [] if can_mount() or os.environ.get("TEST_ALL") else ["test_power.py"]
