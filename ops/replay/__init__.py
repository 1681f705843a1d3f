"""`orders replay`: what stands in the stream, once more: as lines, or into another stream that no service hears."""
