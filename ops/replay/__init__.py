"""`orders replay`: the messages of the stream again, as lines or into another stream, which no service hears."""
