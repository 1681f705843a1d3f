"""The log: an event store per service, behind one asynchronous port."""
