"""Code that services share and that knows no service, in rooms (packages).

Of infra, a room imports only itself and what is listed before it; `tests/infra/test_imports.py` checks this.

    (no room)     addresses, aio, archive_settings, auth_settings, broker_url, bucket_url, code_hash, counts, files,
                  line_output, listening, metrics, printable, redaction, request_span, settings, signals, sqlite_uri,
                  start, timestamps, tuning, usage: the base of every room
    auth          callers' tokens: who has sent a request, by the keys of their issuer
    archive       sealed generations of the stream as files
    store         one service's log: records, the interface EventStore, SQLite
    core          commands become records: decider, state cache, unit of work, the one writer; no broker, no HTTP
    broker        the connection to NATS, the stream EVENTS and its consumers, the relay
    consuming     deliveries in, acknowledgements out: session, consumer, retry queue, dead letters
    read_models   projections of a service's own log, or of the stream
    http          the app, its problems and parameters, the server, the operators' routes
    tracing       spans of what a service records and answers, for OpenTelemetry; off unless a setting asks for it
    process       a service as a process: composition, start, orderly stop, logging
    export        rows for a data platform; a process of its own
    local         a whole system on this machine; no service imports it

Read four modules first; they use the others. process/service.py composes a service. core/writer.py decides and records.
consuming/session.py runs a service's sessions with the broker. broker/relay.py publishes the service's facts.

A service mainly imports core.decider and process.service in `__main__`. Its `api` imports process.runtime.Runtime,
http.problems and http.parameters. Its projections import read_models.tables and store.records; its
`settings` imports infra.settings. Its `export` imports export.rows and store.records.
"""
