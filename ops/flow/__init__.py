"""`orders flow`: show which service hears, does and says what, taken from the code, and what is wrong with the flow.

To read: choreography (the flow as data, and the findings), command (from the code; the outputs).
"""
