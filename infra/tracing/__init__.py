"""Traces a running service: makes spans of what it has recorded and answered, afterwards, and sends them as OTLP.

Only with OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. Without both a service makes no span, and
does not import OpenTelemetry's library.
"""
