"""Live traces of a service: spans of what it has recorded, made after the commit, and sent by OpenTelemetry's library.

Only with OTEL_EXPORTER_OTLP_ENDPOINT. Without it nothing here runs, and the library is not imported.
"""
