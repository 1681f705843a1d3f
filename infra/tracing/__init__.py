"""Live traces of a service: spans of what it has recorded and answered, made afterwards, and sent as OpenTelemetry's.

Only with OTEL_EXPORTER_OTLP_ENDPOINT. Without it a service makes no span, and does not import OpenTelemetry's library.
"""
