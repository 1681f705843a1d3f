"""A whole system on this machine; no service imports it."""
