"""Benchmarks: the cost of the system, and of the systems that it is compared with."""
