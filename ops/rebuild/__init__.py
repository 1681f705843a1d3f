"""`orders rebuild`: what can be made again is dropped and made again: a service's store, or a read model."""
