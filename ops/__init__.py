"""What people do to a running system, from a terminal."""
