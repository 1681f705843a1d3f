"""The commands `orders dlq ls | show | redrive | drop`."""

import asyncio
import os
from typing import Any

import rich_click as click

from infra.consuming.dead_letter import DeadLetter
from infra.counts import count_of
from infra.http.operators.dead_letter_bodies import MAX_REASON
from infra.usage import EXIT_USAGE
from ops.cli import EXIT_FINDING, SEQUENCE, end, ending_well, timeout_option
from ops.client import GOOD, ask, problem, services
from ops.dlq import dead_letters as dead
from ops.dlq.waiting import as_waiting, waits
from ops.errors import Found
from ops.output import cell, print_json, print_out


@click.group("dlq")
def command() -> None:
    """Dead letters: messages that a service could not handle, and later messages about the same order.

    After four attempts a service puts the message into the stream DEAD and continues. Later messages about that order
    follow it there in their order, without an attempt, until the dead letters are redriven or dropped. A read model
    tries a message once, and applies the later ones.
    """


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="For machines: a list of dead letters.")
@ending_well
def ls(*, as_json: bool) -> None:
    """List the dead letters of all services in the stream DEAD. Exit code: 0 there are none, 1 there are some."""
    found = asyncio.run(dead.all_of(os.environ))
    notes = asyncio.run(dead.notes(os.environ)) if found else {}
    found = as_waiting(found)
    if as_json:
        print_json([dead.as_json(letter, notes.get(letter.sequence)) for letter in found])
    elif found:
        print_out(dead.table(found, notes))
        print_out(dead.how_many(found))
    else:
        print_out("no dead letters")
    if found:
        end("", EXIT_FINDING)


@command.command("show")
@click.argument("sequence", type=SEQUENCE)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@ending_well
def show(sequence: int, *, as_json: bool) -> None:
    """Show the dead letter with this SEQUENCE of `ls`: error, stack, headers, and the message's own bytes.

    Also how often it was redriven in vain, and when and why the last time. Exit code 1: there is none.
    """
    found = _as_it_waits(_letter(sequence))
    note = asyncio.run(dead.notes(os.environ)).get(sequence)
    if as_json:
        print_json(dead.as_json(found, note))
    else:
        print_out(dead.lines(found, note))


@command.command("redrive")
@click.argument("sequences", type=SEQUENCE, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Those of every key.")
@click.option("--yes", is_flag=True, help="Do it. Without it, the services only say what they would do.")
@click.option("--reason", default="", metavar="TEXT", help="Why; `show` has it of what fails again.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@timeout_option(dead.TIMEOUT_S)
@ending_well
def redrive(
    sequences: tuple[int, ...], *, everything: bool, yes: bool, reason: str, as_json: bool, timeout: float
) -> None:
    """Have the dead letters with these SEQUENCES handled again, and all others of the same consumer and key, in order.

    Without --yes nothing is changed: each service decides, and says what it would record. The services must run. With
    --yes a dead letter that was handled is deleted; the first one that still cannot be handled stops its key. Handling
    a message twice records nothing new. A service that gives no answer ends the command: what was done for the keys
    before is printed, also with --json. Exit code 1: a key has one that still cannot be handled, also without
    --yes; or there is no such dead letter.
    """
    if bool(sequences) == everything:
        raise click.UsageError("either sequences that `ls` lists, or --all")
    if len(reason) > MAX_REASON:
        raise click.UsageError(f"--reason has at most {MAX_REASON} characters")
    wanted = asyncio.run(dead.all_of(os.environ)) if everything else [_letter(sequence) for sequence in sequences]
    told: list[dict[str, Any]] = []
    stuck = 0
    try:
        for consumer, key in dict.fromkeys((letter.consumer, letter.key) for letter in wanted):
            body = dead.redrive_body(consumer, key, dry_run=not yes, reason=reason)
            answer = _ask(consumer, "redrive", body, timeout)
            told.append({"consumer": consumer, "key": key, **answer})
            stuck += any(outcome["error"] for outcome in answer["outcomes"])
            if not as_json:
                _print(consumer, key, answer, done=yes)
    finally:
        if as_json:
            print_json(told)
    if not as_json and not told:
        print_out("no dead letters")
    elif not as_json and not yes:
        print_out("nothing was changed; with --yes it is done")
    if stuck:
        raise Found(f"{stuck} of {len(told)} keys have a dead letter that still cannot be handled")


@command.command("drop")
@click.argument("sequences", type=SEQUENCE, nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do it.")
@click.option(
    "--json", "as_json", is_flag=True, help="For machines: the dead letters, and how many of each key are left."
)
@timeout_option(dead.TIMEOUT_S)
@ending_well
def drop(sequences: tuple[int, ...], *, yes: bool, as_json: bool, timeout: float) -> None:
    """Delete the dead letters with these SEQUENCES, without handling their messages. Later dead letters stay.

    Those that waited behind a dropped one are handled by a redrive only. Without --yes the dead letters are only shown.
    With --yes the services must run. One that gives no answer ends the command: what was dropped before is printed,
    also with --json. The facts themselves stay in EVENTS and in the logs of the services that said them.
    """
    wanted = [_as_it_waits(_letter(sequence)) for sequence in dict.fromkeys(sequences)]
    told: list[dict[str, Any]] = []
    try:
        for letter in wanted:
            left = _dropped(letter, timeout) if yes else None
            told.append({**dead.as_json(letter), "dropped": yes} | ({} if left is None else {"left": left}))
            if not as_json:
                print_out(f"{dead.lines(letter)}\n" if left is None else _after(letter, left))
    finally:
        if as_json:
            print_json(told)
    if not yes and not as_json:
        print_out("nothing was changed; with --yes they are dropped")


def _dropped(letter: DeadLetter, timeout: float) -> int:
    """Have the dead letter's service drop it; return how many of its key and consumer are left.

    Raises as `_ask` does.
    """
    body = {"consumer": letter.consumer, "key": letter.key, "sequence": letter.sequence}
    left: int = _ask(letter.consumer, "drop", body, timeout)["left"]
    return left


def _after(dropped: DeadLetter, left: int) -> str:
    """Return the text for a dropped dead letter: how many of its key its consumer has left, or the next step.

    There is a next step, a redrive, if the first of those left waited behind the dropped one.
    """
    first = next(iter(_of_key(dropped)), None)
    if first is not None and first.sequence > dropped.sequence and waits(first):
        then = f"{first.sequence} waited behind it: just dlq redrive {first.sequence} --yes"
    else:
        then = f"{dropped.consumer} has {count_of(left, 'more dead letter')} of {cell(dropped.key)}"
    return f"dropped {dropped.sequence}; {then}"


def _as_it_waits(letter: DeadLetter) -> DeadLetter:
    """Return the dead letter as `as_waiting` returns it among all of its key and consumer."""
    of_key = _of_key(letter) if waits(letter) else []
    return next((one for one in as_waiting(of_key) if one.sequence == letter.sequence), letter)


def _of_key(letter: DeadLetter) -> list[DeadLetter]:
    """Read all dead letters with this dead letter's key and consumer, in the order of DEAD."""
    found = asyncio.run(dead.all_of(os.environ))  # a key may have the wildcards of a subject
    return [one for one in found if (one.consumer, one.key) == (letter.consumer, letter.key)]


def _letter(sequence: int) -> DeadLetter:
    found = asyncio.run(dead.one(os.environ, sequence))
    if found is None:
        raise Found(f"there is no dead letter {sequence}")
    return found


def _ask(consumer: str, what: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Ask the service of this consumer to do `what` (redrive or drop), and return its answer.

    `timeout_s`: the longest wait for the answer, at each attempt.

    Raises Found if the service has no such consumer, key or dead letter, SettingsError, and Unreachable if there is no
    answer or another error. A consumer of a service that this checkout lacks ends the process with exit code 2.
    """
    request = dead.service_request(services(os.environ), consumer, what, body)
    if request is None:
        end(f"consumer {consumer} belongs to a service that this checkout does not have", EXIT_USAGE)
    answer = ask(request, GOOD | {404}, timeout_s)
    if answer.status == 404:
        raise Found(f"{request.service}: {problem(answer)}")
    dead.outcomes(request, answer)
    return answer.body


def _print(consumer: str, key: str, answer: dict[str, Any], *, done: bool) -> None:
    print_out(f"{consumer}, key {cell(key)}", style="bold", wrap=False)
    for outcome in answer["outcomes"]:
        letter = f"  {outcome['sequence']}: {cell(outcome['subject'])}"
        if outcome["error"]:
            print_out(f"{letter} still cannot be handled: {cell(outcome['error'])}", style="red", wrap=False)
        elif outcome["recorded"]:
            facts = ", ".join(recorded["fact"] for recorded in outcome["recorded"])
            print_out(f"{letter} {'recorded' if done else 'would record'} {facts}")
        else:
            print_out(f"{letter}: nothing {'was' if done else 'would be'} new")
    if done and answer["left"]:
        print_out(f"  {count_of(answer['left'], 'dead letter')} left")
