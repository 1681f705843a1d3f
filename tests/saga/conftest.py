"""Which tests can run here: Go is no wheel and may be missing, but not where all tests are wanted."""

import os
import shutil

collect_ignore = [] if shutil.which("go") or os.environ.get("TEST_ALL") else ["test_http_proxy.py"]
