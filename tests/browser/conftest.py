"""Leaves out the tests that need a browser where none is installed, but not where all tests are wanted (TEST_ALL)."""

import os

from tests.browser.chromium import program

NEED_ONE = ["test_other_origins.py", "test_docs_page.py", "test_dashboard.py", "test_accessibility.py"]

collect_ignore = [] if program() or os.environ.get("TEST_ALL") else NEED_ONE
