"""Leaves out the tests of power cuts where no disk can be mounted, which takes root and /dev/fuse, unless TEST_ALL is
set.
"""

import os

from tests.chaos.disk import can_mount

collect_ignore = [] if can_mount() or os.environ.get("TEST_ALL") else ["test_power.py"]
