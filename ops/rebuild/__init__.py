"""`orders rebuild`: drops a service's store or a read model and builds it again."""
