"""The pages of dead letters, and the only routes that change anything: they take this process's own forms alone."""

import re
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Final

from litestar import Response, get, post
from litestar.response import Redirect, Stream
from litestar.types import ControllerRouterHandler

from infra.aio import wait
from infra.auth.principal import OPS_REDRIVE
from infra.http.operators.dead_letter_bodies import MAX_REASON
from infra.http.parameters import AnyRequest
from infra.http.problems import Problem
from ops.dashboard import live
from ops.dashboard.dead_letter_groups import DeadLetterKey, grouped
from ops.dashboard.forms import Form
from ops.dashboard.pages import page, render
from ops.dashboard.poller import Poller
from ops.dashboard.redrive import Operation, Operations, Redriver
from ops.dashboard.sessions import OPERATOR, may_act
from ops.dashboard.stream import ALL_LETTERS, MOST_LETTERS, StreamReader
from ops.dlq.waiting import as_waiting

LOOK_S: Final = 0.1
LONG_LOOK_S: Final = 1.0
LONG: Final = 50
"""An operation of more keys is sent each LONG_LOOK_S, in place of LOOK_S: it is sent whole."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")


def dead_letter_routes(
    stream: StreamReader, redriver: Redriver, operations: Operations, poller: Poller, form: Form
) -> list[ControllerRouterHandler]:
    @get("/dead-letters", include_in_schema=False)
    async def letters(request: AnyRequest) -> Response[str]:
        found = await stream.dead_letters(ALL_LETTERS, whole=True)
        return page(
            "dead_letters.html",
            groups=grouped(as_waiting(found)),
            notes=await stream.redrives() if found else {},
            most=MOST_LETTERS if len(found) == MOST_LETTERS else None,
            chosen=request.query_params.get("choose") != "none",
            token=form.token,
            operations=operations.newest,
        )

    @post("/dead-letters/preview", include_in_schema=False, status_code=200)
    async def preview(request: AnyRequest) -> Response[str]:
        keys = _keys(await _form_of_one_who_may_act(request, form))
        outcomes = await redriver.preview(keys, OPERATOR.get())
        return page("preview.html", outcomes=outcomes, token=form.token, operation=secrets.token_urlsafe(16))

    @post("/dead-letters/redrive", include_in_schema=False)
    async def redrive(request: AnyRequest) -> Redirect:
        fields = await _form_of_one_who_may_act(request, form)
        its_id, reason = fields.get("operation", [""])[0], fields.get("reason", [""])[0].strip()
        if not _ID.fullmatch(its_id):
            raise Problem(400, "invalid-request", "the form has no operation: begin with the preview")
        if not reason or len(reason) > MAX_REASON:
            raise Problem(400, "invalid-request", f"a redrive needs a reason of at most {MAX_REASON} characters")
        operations.begin(its_id, reason, _keys(fields), _seen(fields), OPERATOR.get())
        return Redirect(f"/dead-letters/operations/{its_id}", status_code=303)

    @get("/dead-letters/operations/{its_id:str}", include_in_schema=False)
    async def operation(its_id: str) -> Response[str]:
        return page("operation.html", operation=_known(operations, its_id), token=form.token)

    @get("/dead-letters/operations/{its_id:str}/live", include_in_schema=False)
    async def operation_live(its_id: str) -> Stream:
        return live.answer(_changes(_known(operations, its_id), form.token, poller))

    @post("/dead-letters/operations/{its_id:str}/stop", include_in_schema=False)
    async def stop(request: AnyRequest, its_id: str) -> Redirect:
        await _form_of_one_who_may_act(request, form)
        _known(operations, its_id).stopping = True
        return Redirect(f"/dead-letters/operations/{its_id}", status_code=303)

    return [letters, preview, redrive, operation, operation_live, stop]


async def _form_of_one_who_may_act(request: AnyRequest, form: Form) -> dict[str, list[str]]:
    """Return the fields of a posted form. Raises Problem as `Form.read` does; 403 for one who may only read."""
    if not may_act():
        raise Problem(403, "insufficient-scope", f"your token lacks the scope {OPS_REDRIVE}: you may only read")
    return await form.read(request)


def _keys(fields: dict[str, list[str]]) -> Sequence[DeadLetterKey]:
    """Return the keys that are picked in a form (its fields `key`), each once; what is no key is left out.

    Raises Problem (400) if none is picked.
    """
    picked = [one.split(" ") for one in fields.get("key", ())]
    keys = [DeadLetterKey(*one) for one in picked if len(one) == 2 and all(one)]
    if not keys:
        raise Problem(400, "invalid-request", "choose at least one order or key")
    return list(dict.fromkeys(keys))


def _seen(fields: dict[str, list[str]]) -> dict[DeadLetterKey, str]:
    """Return the hashes of the previews that a form has (its fields `seen`), by key."""
    told = [one.split(" ") for one in fields.get("seen", ())]
    return {DeadLetterKey(one[0], one[1]): one[2] for one in told if len(one) == 3}


def _known(operations: Operations, its_id: str) -> Operation:
    found = operations.get(its_id)
    if found is None:
        raise Problem(404, "not-found", "there is no such operation, or it is of before this dashboard's restart")
    return found


async def _changes(operation: Operation, token: str, poller: Poller) -> AsyncIterator[bytes]:
    """Yield an event with the operation's HTML at once, then whenever a look finds that it has changed.

    There is a look every LOOK_S (0.1 s), or LONG_LOOK_S (1 s) with more than LONG (50) keys. Several changes since a
    look are one event. It ends with the event FINISHED when the operation is over, or when the poller closes.
    """
    told = -1
    while not poller.closing.is_set():
        if operation.changes != told:
            told = operation.changes
            html = render("operation_part.html", operation=operation, token=token)
            yield live.event(html, told, live.FINISHED if operation.over else "")
        if operation.over:
            return
        await wait(poller.closing, LOOK_S if len(operation.outcomes) <= LONG else LONG_LOOK_S)
