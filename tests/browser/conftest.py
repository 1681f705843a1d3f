"""Leaves out the tests that need a browser where none is installed, but not where all tests are wanted (TEST_ALL)."""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.browser.chromium import program
from tests.browser.visited import Visited, visiting

NEED_ONE = [
    *("test_other_origins.py", "test_docs_page.py", "test_dashboard.py", "test_accessibility.py", "test_every_page.py"),
    "test_sign_in.py",
]

collect_ignore = [] if program() or os.environ.get("TEST_ALL") else NEED_ONE


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def visited(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Visited]:
    async with visiting(tmp_path_factory.mktemp("visited")) as made:
        yield made
