"""The same choreography, written by hand on FastStream: four services, each with its SQLite file, over JetStream.

As FastStream's documentation has it: typed handlers, durable consumers, a message acknowledged when its handler is done
and delivered again when it fails. Each handler works in one transaction, which also remembers what it answered. So a
message that is delivered twice changes nothing, and its answer is published again, in case it was lost.
"""
