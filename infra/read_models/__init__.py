"""Projections: tables fed from a service's own log or from the stream EVENTS."""
