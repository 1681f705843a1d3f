"""`orders what-if`: fold recorded history and decide it again with the code in the working tree.

A decision is what a service recorded because of one fact that it heard. It is made again over what was recorded before
it, never over what the code would have said instead. So a changed rule shows where it decides and nowhere else.
Requests of clients and a service's own timers are given: they are not decided again.

To read: history (what is read), judge (one service's log), report (all services), command.
"""
