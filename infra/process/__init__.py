"""Runs a service as a process: composition, start, orderly stop, logging."""
