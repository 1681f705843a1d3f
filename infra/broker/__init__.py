"""The wire and the streams: connection, EVENTS and its consumers, the relay."""
