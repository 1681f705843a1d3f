"""Read models: tables that projections feed from a service's own log or from the stream EVENTS."""
