"""`orders dlq`: the messages that a service could not handle. It lists, shows, redrives and drops them."""
