"""Mutation testing, `just mutants`: changes the code in one place at a time, and runs the tests that execute it."""
