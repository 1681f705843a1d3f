"""The commands `orders dlq ls | show | redrive | drop`."""

import asyncio
import os
from typing import Any

import msgspec
import rich_click as click
from rich.console import Console

from infra.consuming.dead_letter import DeadLetter
from infra.local.services import service_names, service_url
from ops.cli import EXIT_FINDING, EXIT_USAGE, Found, end, ending_well
from ops.client import Unreachable, request
from ops.dlq import letters as dead

SEQUENCE = click.IntRange(1)


@click.group("dlq")
def command() -> None:
    """Dead letters: messages that a service could not handle, and what is about the same order behind them.

    A service tries four times, then parks the message in the stream DEAD and goes on. What comes later about that order
    waits behind it, in its order, until the letters are redriven or dropped.
    """


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="For machines: a list of letters.")
@ending_well
def ls(*, as_json: bool) -> None:
    """List the dead letters of all services, as they stand in the stream DEAD. Exit code 1: there are some."""
    found = asyncio.run(dead.all_of(os.environ))
    if as_json:
        click.echo(msgspec.json.encode([dead.as_json(letter) for letter in found]).decode())
    elif found:
        Console().print(dead.table(found))
        keys = {(letter.consumer, letter.key) for letter in found}
        click.echo(f"{len(found)} dead letters; as many orders wait as there are keys: {len(keys)}")
    else:
        click.echo("no dead letters")
    if found:
        end("", EXIT_FINDING)


@command.command("show")
@click.argument("letter", type=SEQUENCE)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@ending_well
def show(letter: int, *, as_json: bool) -> None:
    """Show all of LETTER, a number that `ls` lists: error, stack, headers, and the message's own bytes."""
    found = _letter(letter)
    click.echo(msgspec.json.encode(dead.as_json(found)).decode() if as_json else dead.lines(found))


@command.command("redrive")
@click.argument("letters", type=SEQUENCE, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Of every key that has letters.")
@click.option("--yes", is_flag=True, help="Do it. Without it the services only say what it would do.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@ending_well
def redrive(letters: tuple[int, ...], *, everything: bool, yes: bool, as_json: bool) -> None:
    """Have the letters of a key handled again, in their order: all that wait under the consumer and key of LETTERS.

    Without --yes nothing is changed: each service decides, and says what it would record. What is handled is deleted;
    the first that still cannot be handled stops its key. Handling one twice records nothing new.
    """
    if bool(letters) == everything:
        raise click.UsageError("either letters that `ls` lists, or --all")
    wanted = asyncio.run(dead.all_of(os.environ)) if everything else [_letter(letter) for letter in letters]
    told, stuck = [], 0
    for consumer, key in dict.fromkeys((letter.consumer, letter.key) for letter in wanted):
        answer = _ask(consumer, "redrive", {"consumer": consumer, "key": key, "dry_run": not yes})
        told.append({"consumer": consumer, "key": key, **answer})
        stuck += any(outcome["error"] for outcome in answer["outcomes"])
        if not as_json:
            _print(consumer, key, answer, done=yes)
    if as_json:
        click.echo(msgspec.json.encode(told).decode())
    elif not told:
        click.echo("no dead letters")
    elif not yes:
        click.echo("nothing was changed; with --yes it is done")
    if stuck:
        raise Found(f"{stuck} of {len(told)} keys have a letter that still cannot be handled")


@command.command("drop")
@click.argument("letter", type=SEQUENCE)
@click.option("--yes", is_flag=True, help="Do it.")
@ending_well
def drop(letter: int, *, yes: bool) -> None:
    """Delete LETTER unhandled: the service will never act on it. The letters behind it stay, until they are redriven.

    The fact itself stays in EVENTS and in its service's log.
    """
    found = _letter(letter)
    if not yes:
        click.echo(f"{dead.lines(found)}\n\nnothing was changed; with --yes this letter is dropped")
        return
    body = {"consumer": found.consumer, "key": found.key, "sequence": letter}
    left = _ask(found.consumer, "drop", body)["left"]
    click.echo(f"dropped {letter}; {found.consumer} has {left} more letters of {found.key}")


def _letter(sequence: int) -> DeadLetter:
    found = asyncio.run(dead.one(os.environ, sequence))
    if found is None:
        raise Found(f"there is no dead letter {sequence}")
    return found


def _ask(consumer: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
    """Of the service that hears as this consumer. Raises Unreachable, Found."""
    service = consumer.partition("-")[0]
    if service not in service_names():
        end(f"there is no service {service}_svc", EXIT_USAGE)
    answer = request("POST", f"{service_url(service, os.environ)}/ops/dead-letters/{what}", body)
    if answer.status == 404:
        raise Found(f"{service}_svc: {answer.body['detail']}")
    if answer.status != 200:
        raise Unreachable(f"{service}_svc: {answer.body.get('detail', answer.status)}")
    return answer.body


def _print(consumer: str, key: str, answer: dict[str, Any], *, done: bool) -> None:
    console = Console(highlight=False)
    console.print(f"{consumer}, key {key}", style="bold", markup=False)
    for outcome in answer["outcomes"]:
        letter = f"  letter {outcome['sequence']}: {outcome['subject']}"
        if outcome["error"]:
            console.print(f"{letter} still cannot be handled: {outcome['error']}", style="red", markup=False)
        elif outcome["recorded"]:
            facts = ", ".join(recorded["fact"] for recorded in outcome["recorded"])
            console.print(f"{letter} {'recorded' if done else 'would record'} {facts}", markup=False)
        else:
            console.print(f"{letter}: nothing {'was' if done else 'would be'} new", markup=False)
    if done and answer["left"]:
        console.print(f"  {answer['left']} letters left", markup=False)
