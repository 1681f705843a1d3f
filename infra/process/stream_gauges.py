"""The gauges of the stream: its newest generation, its growth and room, the keeper's work.

Each gauge has at most one series, however many generations there are; none before the first session with the broker.
"""

from collections.abc import Callable, Mapping

from infra.broker.forecast import bytes_per_s
from infra.broker.generations import Generations
from infra.broker.numbering import EVENTS
from infra.metrics import Labels
from infra.process.runtime import Runtime

Value = Callable[[Generations], float | None]
ReadGauge = Callable[[Value], Callable[[], Mapping[Labels, float]]]
"""Makes what a gauge reads of a value of the generations."""


def export_stream(runtime: Runtime) -> None:
    """Export what this process knows of the stream. One service of the system calls it: all would report the same."""
    metrics, broker = runtime.metrics, runtime.broker

    def read(value: Value, *, known: bool = True) -> Callable[[], Mapping[Labels, float]]:
        return lambda: (
            {(EVENTS,): max(0, value(broker.generations) or 0)} if known and broker.generations is not None else {}
        )

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
        "saga_stream_growth_bytes_per_second",
        "At what rate facts come, over the age of the generations or that of the newest, whichever is more.",
        ("stream",),
        read(lambda generations: bytes_per_s(generations.infos, runtime.clock())),
    )
    room = runtime.settings.broker_room
    metrics.gauges_by(
        "saga_broker_free_bytes",
        "Bytes of the broker's room that the stream's generations leave; missing if its room is not known.",
        ("stream",),
        read(lambda generations: room - sum(info.state.bytes for info in generations.infos), known=bool(room)),
    )
    _export_generations(runtime, read)


def _export_generations(runtime: Runtime, read: ReadGauge) -> None:
    metrics, broker = runtime.metrics, runtime.broker
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
