"""The dashboard's own settings."""

import pytest

from infra.local.dashboard import dashboard_settings
from infra.settings import SettingsError


@pytest.mark.parametrize("url", ["http://127.0.0.1:16686/trace/{trace_id}", "https://t.example/?q={trace_id}", ""])
def test_an_address_of_traces_is_taken(url: str) -> None:
    assert dashboard_settings({"DASHBOARD_TRACE_URL": url}).dashboard_trace_url == url


@pytest.mark.parametrize("url", ["http://127.0.0.1:16686/trace/", "javascript:alert('{trace_id}')", "{trace_id}"])
def test_what_is_no_address_of_a_trace_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="DASHBOARD_TRACE_URL is no address of a trace"):
        dashboard_settings({"DASHBOARD_TRACE_URL": url})
