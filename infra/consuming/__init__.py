"""Deliveries in, acknowledgements out: sessions, retries, dead letters."""
