"""One service's log: records, the port, and SQLite behind it."""
