"""`orders dlq ls | show | redrive | drop`: for dead letters, the messages that a service could not handle."""
