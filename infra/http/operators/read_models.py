"""Read models from outside: how far behind each is, and feeding one again from the beginning."""

from collections.abc import Mapping

from litestar import Router, get, post
from msgspec import Struct

from infra.http.parameters import PathId
from infra.http.problems import Problem, problems
from infra.read_models.log_view import LogView
from infra.read_models.stream_view import StreamView
from infra.read_models.tables import ViewBehind
from infra.store.event_store import StoreError

AnyView = LogView | StreamView


class ViewState(Struct):
    """`behind`: how many facts the view has yet to read; null with `trouble` when nobody can say."""

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
    @get("/", tags=["operators"], summary="The service's read models, and how far they are behind")
    async def show_all() -> ViewStates:
        return ViewStates([await _state(name, view) for name, view in views.items()])

    @post(
        "/{name:str}/rebuild",
        tags=["operators"],
        summary="Drop a read model and feed it again from the beginning",
        status_code=202,
        responses=problems(400, 404),
    )
    async def rebuild(name: PathId) -> ViewState:
        if name not in views:
            raise Problem(404, "view-not-found", f"there is no such view; there are: {', '.join(views) or 'none'}")
        views[name].rebuild()
        return ViewState(name, None, "about to be rebuilt")

    return Router("/ops/views", route_handlers=[show_all, rebuild])
