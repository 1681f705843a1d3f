"""Operators' routes for read models: how many facts each lags by, and a rebuild of one."""

from collections.abc import Mapping

from litestar import Router, get, post
from msgspec import Struct

from infra.http.parameters import PathId
from infra.http.problems import Problem, problems
from infra.read_models.log_view import LogView
from infra.read_models.stream_view import StreamView
from infra.read_models.tables import ViewBehind
from infra.store.errors import StoreError

AnyView = LogView | StreamView


class ViewState(Struct):
    """How far a read model lags. `behind`: the number of facts that the read model has yet to read.

    For a read model of the service's own log, facts of all kinds count. `behind` is null if the number is not known;
    `trouble` then gives the reason. Otherwise `trouble` is null.
    """

    name: str
    behind: int | None
    trouble: str | None


class ViewStates(Struct):
    views: list[ViewState]


async def _state(name: str, view: AnyView) -> ViewState:
    try:
        return ViewState(name, await view.behind(), None)
    except (StoreError, ViewBehind) as error:
        return ViewState(name, None, str(error))


def view_routes(views: Mapping[str, AnyView]) -> Router:
    @get("/", tags=["operators"], summary="The service's read models, and how many facts each is behind")
    async def show_all() -> ViewStates:
        return ViewStates([await _state(name, view) for name, view in views.items()])

    @post(
        "/{name:str}/rebuild",
        tags=["operators"],
        summary="Delete a read model and build it again from the first fact",
        status_code=202,
        responses=problems(400, 404),
    )
    async def rebuild(name: PathId) -> ViewState:
        if name not in views:
            raise Problem(
                404, "view-not-found", f"there is no read model {name}; there are: {', '.join(views) or 'none'}"
            )
        views[name].rebuild()
        return ViewState(name, None, "the rebuild has been requested")

    return Router("/ops/views", route_handlers=[show_all, rebuild])
