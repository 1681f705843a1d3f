"""Which pages can be tested here: the NATS CLI is no wheel and may be missing, but not where all tests are wanted."""

import os
import shutil

collect_ignore = [] if shutil.which("nats") or os.environ.get("TEST_ALL") else ["test_nats_cli.py"]
