"""Runs the real services over models of JetStream and of their stores, in virtual time. One seed is one schedule."""
