"""What is done for every service, and knows none of them: store, broker, relay, the loop from message to message, HTTP."""
