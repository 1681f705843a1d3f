"""The gauges of the stream: the newest generation's size, the keeper's work. No label grows with the generations."""

from collections.abc import Callable, Mapping

from infra.broker.generations import Generations
from infra.broker.numbering import EVENTS
from infra.metrics import Labels
from infra.process.runtime import Runtime


def export_stream(runtime: Runtime) -> None:
    """Export what this process knows of the stream. One service does: each would report the same of the one stream."""
    metrics, broker = runtime.metrics, runtime.broker

    def read(value: Callable[[Generations], float | None]) -> Callable[[], Mapping[Labels, float]]:
        return lambda: {} if broker.generations is None else {(EVENTS,): max(0, value(broker.generations) or 0)}

    metrics.gauges_by(
        "saga_stream_bytes",
        "Bytes of the stream's newest generation, at the last look.",
        ("stream",),
        read(lambda generations: generations.newest.state.bytes),
    )
    metrics.gauges_by(
        "saga_stream_limit_bytes",
        "Bytes at which the newest generation refuses messages; 0 without a limit.",
        ("stream",),
        read(lambda generations: generations.newest.config.max_bytes),
    )
    metrics.gauges_by(
        "saga_stream_generation",
        "Number of the stream's newest generation: it rises by one with each roll-over.",
        ("stream",),
        read(lambda generations: generations.number),
    )
    metrics.gauges_by(
        "saga_stream_unsealed_generations",
        "Generations before the newest that are not sealed yet.",
        ("stream",),
        read(lambda generations: len(generations.infos) - 1 - len(generations.sealed)),
    )
    metrics.gauges_by(
        "saga_stream_overdue",
        "1 if the newest generation should have had a successor long ago, otherwise 0.",
        ("stream",),
        read(lambda _: float(broker.overdue is not None)),
    )
