"""`orders dashboard`: a page that shows the whole flow, live: what is well, what waits for whom, and the next step.

It is a process of its own that only reads. To read: poller (asks the services), overview and its template (the first
screen), routes (the pages), live (what an open page is sent), process (runs it).
"""
