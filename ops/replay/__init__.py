"""`orders replay` reads messages of EVENTS again and prints them as lines or publishes them into a stream.

Services hear them only with --aloud.
"""
