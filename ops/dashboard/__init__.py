"""`orders dashboard`: a page that shows the whole flow, live: what is well, what waits for whom, and the next step.

It is a process of its own, which changes nothing but by a redrive that somebody asks for. To read: app (its parts),
poller (asks the services); overview, flow_map, order, waits, dead_letter_groups (what a page shows; pure); lists; live
(what an open page is sent), stream (reads the broker), redrive; routes and *_routes (the pages); process (runs it).
"""
