"""What is done for every service, and knows none of them: store, broker, relay, the message loop, HTTP."""
