"""The services as they are, over a model of JetStream and of their stores, in virtual time, one seed a schedule."""
