"""`orders dlq`: list, show, redrive and drop dead letters, the messages that a service could not handle."""
