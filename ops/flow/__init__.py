"""`orders flow`: which service hears, does and says what, taken from the code, and what is wrong with that.

To read: choreography (the flow as data, and the findings), command (from the code; the outputs).
"""
