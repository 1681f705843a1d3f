"""Traces a running service: makes spans of what it has recorded and answered, afterwards, and sends them as OTLP.

Only with OTEL_EXPORTER_OTLP_ENDPOINT. Without it a service makes no span, and does not import OpenTelemetry's library.
"""
