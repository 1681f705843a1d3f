"""`orders dlq`: messages that a service could not handle: which, why, and having them handled again, or dropped."""
