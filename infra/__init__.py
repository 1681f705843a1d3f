"""What is done for every service, and knows none of them, in rooms.

Imports go down only, from the last of these to the first; `tests/infra/test_imports.py` holds it.

    settings, timestamps, files, tuning   the base of every room
    store         one service's log: records, the port, SQLite
    core          commands become records: decider, state cache, unit of work, the one writer; no broker, no HTTP
    broker        the wire and the streams: connection, EVENTS, its consumers, the relay
    consuming     deliveries in, acknowledgements out: session, consumer, retry queue, dead letters
    read_models   projections of a service's own log, or of the stream
    http          the app, its problems and parameters, the server, the operators' routes
    process       a service as a process: composition, start, orderly stop, logging
    export        rows for a data platform; a process of its own
    local         a whole system on this machine; no service imports it

To read it: process/service.py composes a service; core/writer.py is its heart; consuming/session.py is its side of the
broker; broker/relay.py publishes. These four use the others.

A service imports: core.decider and process.service in `__main__`; process.service.Runtime, http.problems,
http.parameters and timestamps in `api`; read_models.tables and store.records in a projection; settings in its own
settings; export.command and export.rows in `export`.
"""
