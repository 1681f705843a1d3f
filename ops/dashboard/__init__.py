"""`orders dashboard`: a page that shows the whole flow, live: what is well, what waits for whom, and the next step.

The dashboard is a process of its own. It changes nothing, except by a redrive of dead letters that a person asks for.

Read app (the parts) and poller (asks the services) first. overview, flow_map, order, lifelines, plots, to_copy and
dead_letter_groups compute what a page shows (pure); lists, searches, facts, logs and finding look it up. stream reads
the broker, live sends events to open pages, redrive redrives. routes and *_routes have the pages, pages makes their
HTML, process runs all.
"""
