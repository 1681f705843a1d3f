"""Operators' routes for read models: how many facts each lags by, and a rebuild of one."""

from collections.abc import Iterable, Mapping

from litestar import Router, get, post
from msgspec import Struct

from infra.auth.principal import OPS_READ, OPS_REDRIVE
from infra.http.access import ACCESS
from infra.http.answers import problems
from infra.http.examples import example, example_of
from infra.http.operators.action_log import ActionLog, noted
from infra.http.parameters import AnyRequest, PathId
from infra.http.problems import Problem
from infra.read_models.errors import ViewBehind
from infra.read_models.log_view import LogView
from infra.read_models.stream_view import StreamView
from infra.store.errors import StoreError

AnyView = LogView | StreamView


@example(name="list", behind=0, trouble=None)
class ViewState(Struct):
    """How far a read model lags. `behind`: about how many facts the read model has yet to read; null: unknown.

    For a read model of the service's own log, facts of all kinds count. `trouble` says why `behind` is null, or that a
    rebuild was requested; otherwise it is null.
    """

    name: str
    behind: int | None
    trouble: str | None


@example(views=[example_of(ViewState)])
class ViewStates(Struct):
    views: list[ViewState]


async def _state(name: str, view: AnyView) -> ViewState:
    try:
        return ViewState(name, await view.behind(), None)
    except (StoreError, ViewBehind) as error:
        return ViewState(name, None, str(error))


def _unknown(name: str, views: Iterable[str]) -> Problem:
    return Problem(404, "view-not-found", f"there is no read model {name}; there are: {', '.join(views) or 'none'}")


def view_routes(views: Mapping[str, AnyView], log: ActionLog | None = None) -> Router:
    """Return the routes. `log` None: what operators do is not noted."""

    @get(
        "/",
        tags=["operators"],
        summary="The service's read models, and how many facts each is behind",
        opt={ACCESS: OPS_READ},
    )
    async def show_all() -> ViewStates:
        return ViewStates([await _state(name, view) for name, view in views.items()])

    @post(
        "/{name:str}/rebuild",
        tags=["operators"],
        summary="Delete a read model and build it again from the first fact",
        opt={ACCESS: OPS_REDRIVE},
        status_code=202,
        responses=problems(400, _unknown("lists", ["list"]), 503),
    )
    async def rebuild(name: PathId, request: AnyRequest) -> ViewState:
        async with noted(log, request, "rebuild", {"view": name}):
            if name not in views:
                raise _unknown(name, views)
            views[name].rebuild()
            return ViewState(name, None, "the rebuild has been requested")

    return Router("/ops/views", route_handlers=[show_all, rebuild])
