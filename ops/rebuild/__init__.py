"""`orders rebuild` builds a service's store again from EVENTS, or a read model from the facts."""
