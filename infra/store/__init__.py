"""One service's log: its records, the interface EventStore, and the store in an SQLite file."""
