"""`orders what-if`: recorded history folded and decided again with the code in the working tree.

A decision is what one heard fact made a service record. It is judged over what was recorded before it, never over what
the code would have said instead, so one changed rule shows where it decides and nowhere else. What clients asked for
and what a service's own timers did count as given.
"""
