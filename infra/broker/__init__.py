"""Talks to NATS: the connection, the stream EVENTS and its consumers, the relay, and look-ups in the stream."""
