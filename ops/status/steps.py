"""What to do about each kind of warning, and about each reason for which a service is not ready.

The tables of docs/runbook.md say the same: tests hold one to the other.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from infra.process.measures import CLOCK
from ops.status.concern import Concern
from ops.status.seen import SeenService

RUNBOOK: Final = "docs/runbook.md"


class NextStep(NamedTuple):
    """What to do, the heading of the runbook's section that says more, and commands for a shell.

    In `commands` and `what_to_do`, `{name}` stands for the service that is meant (without `_svc`), `{url}` for its base
    URL.
    """

    what_to_do: str
    section: str
    commands: tuple[str, ...]


WARNINGS: Final[Mapping[str, NextStep]] = {
    "… consumes nothing: …": NextStep(
        "resume its consumer, or mend what is said here", "SagaConsumerBehind", ("just nats-cli-consumers",)
    ),
    "…: the broker denies its user what is needed: …": NextStep(
        "grant it at the broker; {name}_svc then stops to say this", "SagaPermissionDenied", ("curl -s {url}/readyz",)
    ),
    "… has … dead letter…, …": NextStep("redrive or drop them", "SagaDeadLetters", ("just dlq ls",)),
    "an older generation of EVENTS is not sealed …": NextStep(
        "start the keeper, or end who publishes into it",
        "SagaGenerationUnsealed",
        ("just stream ls", "just stream keeper"),
    ),
    "… has not rolled over, though …": NextStep(
        "make the next generation, and start the keeper",
        "SagaRollOverOverdue",
        ("just stream roll", "just stream keeper"),
    ),
    "the broker takes no more facts …": NextStep(
        "archive the sealed generations, or give the broker more room", "The room of the broker", ("just archive",)
    ),
    "newer code …": NextStep("install the newer version again", "Facts of newer code", ("just audit",)),
    "… streams cannot be read; …": NextStep("find out what is damaged", "Streams that cannot be read", ("just audit",)),
    "the archive's bucket …": NextStep(
        "mend the way to the bucket", "The bucket of the archive", ("curl -s {url}/readyz",)
    ),
    "the keys of tokens …": NextStep(
        "mend the file, or the way to the issuer", "SagaAuthRejections", ("curl -s {url}/readyz",)
    ),
    "this system was never audited…": NextStep("audit it now, and once a day", "SagaNeverAudited", ("just audit",)),
    "…_svc has not answered since …": NextStep(
        "see why {name}_svc is silent; the orders go on once it answers",
        "SagaOrdersLate",
        ("curl -s {url}/readyz", "just roll"),
    ),
    "new orders are refused since …": NextStep(
        "see why; clients may repeat them",
        "SagaOrdersRefused",
        ("curl -s {url}/metrics | grep saga_orders_refused_total",),
    ),
    f"{CLOCK}…": NextStep("set the clock; orders and facts are not lost", "SagaClockBackward", ("date -u",)),
}
"""By the words of the warning; … is any text."""

NOT_READY: Final[Mapping[str, NextStep]] = {
    "store": NextStep("mend the store, as is said here", "SagaNotReady", ("curl -s {url}/readyz",)),
    "log_lost": NextStep(
        "put the right store of {name}_svc back, or stop {name}_svc, rebuild its store, and start it",
        "SagaNotReady",
        ("just rebuild {name}",),
    ),
    "stream_full": NextStep(
        "make the next generation", "SagaStreamFilling", ("just stream roll", "just stream keeper")
    ),
    "consumer": NextStep("resume the consumer, as is said here", "SagaConsumerBehind", ("just nats-cli-consumers",)),
    "relay": NextStep(
        "see the broker's log; make room on its disk and restart it", "SagaRelayBehind", ("just nats-cli-stream",)
    ),
    "relay_catching_up": NextStep(
        "wait: {name}_svc publishes what the stream lacks", "SagaNotReady", ("curl -s {url}/readyz",)
    ),
}
"""By the reason of `saga_ready`, causes before their effects. That of all services, `broker`, is none of one."""

STORES: Final[Mapping[str, NextStep]] = {
    "…just rebuild …": NextStep(
        "stop {name}_svc, put the right store back or rebuild it, and start it",
        "SagaNotReady",
        ("just rebuild {name}",),
    ),
    "…disk is full…": NextStep(
        "make room on the disk of the store", "SagaDiskFillsSoon", ("df -h ${{DATA_DIR:-.data}}",)
    ),
}
"""By the words of what is wrong with a store: what is more to the point than the step for all stores."""

UNKNOWN: Final = NextStep("see what it says, and its log", "Runbook", ("curl -s {url}/readyz",))
"""For words of another version."""


def about_warning(text: str, seen: SeenService, services: Sequence[SeenService]) -> Concern:
    """Return the concern for this warning of the service `seen`.

    `services`: all services; a warning that begins with the name of one, such as `point_svc `, is about that one.
    """
    meant = next((one for one in services if text.startswith(f"{one.name} ")), seen)
    return _concern(text, _of_words(WARNINGS, text, UNKNOWN), meant)


def about_not_ready(seen: SeenService) -> Concern:
    """Return the concern for a service that is not ready. Call it only if the cause is not the lack of a broker."""
    missing = {one.labels.get("reason") for one in seen.samples.of("saga_ready") if one.value == 0}
    reason = next((reason for reason in NOT_READY if reason in missing), "store")
    step = NOT_READY[reason]
    if reason == "store":
        step = _of_words(STORES, seen.not_ready, step)
    return _concern(f"{seen.name} is not ready: {seen.not_ready}", step, seen)


def _of_words(table: Mapping[str, NextStep], text: str, other: NextStep) -> NextStep:
    return next((step for words, step in table.items() if fits(words, text)), other)


def fits(words: str, text: str) -> bool:
    """Return whether the text begins with `words`, a key of WARNINGS or STORES, in which … is any text."""
    return re.match(re.escape(words).replace("…", ".*"), text, re.DOTALL) is not None


def place(heading: str) -> str:
    """Return the link to the runbook's section with this heading, such as `docs/runbook.md#sagaordersrefused`."""
    return f"{RUNBOOK}#{heading.lower().replace(' ', '-')}"


def _concern(text: str, step: NextStep, seen: SeenService) -> Concern:
    name, url = seen.service.name, seen.service.url
    told = step.what_to_do.format(name=name, url=url)
    return Concern(
        text, f"{told}: {place(step.section)}", tuple(command.format(name=name, url=url) for command in step.commands)
    )
