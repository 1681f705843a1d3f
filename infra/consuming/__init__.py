"""Consumes the stream EVENTS: sessions, acknowledgements, retries and dead letters."""
