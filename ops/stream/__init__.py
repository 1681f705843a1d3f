"""`orders stream` lists the generations of the stream, makes the next one, and keeps them."""
