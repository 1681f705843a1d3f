"""A roll restarts one service at a time, only while the others are ready, and ends with the first that is not back."""

from collections.abc import Callable, Mapping

import pytest

from infra.local.processes import StartFailed
from infra.local.readiness import ALIVE, READY
from infra.local.rolling import RollStopped, roll


class Restarted:
    """A process that runs, or has ended."""

    def __init__(self, code: int | None = None) -> None:
        self.pid = 4_711
        self.returncode = code

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        raise AssertionError

    def send_signal(self, sig: int) -> None:
        raise AssertionError

    def kill(self) -> None:
        raise AssertionError


class System:
    """Three services, a keeper and a dashboard.

    `not_ready`: why one is not, by its name; `after`: what a restart makes it.
    """

    def __init__(self, *, ended: tuple[str, ...] = (), not_ready: Mapping[str, str] | None = None) -> None:
        self.urls = {name: f"http://{name}" for name in ("order", "product", "point")}
        self.dashboard = "http://dashboard"
        self.ended = set(ended)
        self.by_hand: dict[str, str] = {}
        """Who has the port of a service, by its name: that service is ready."""
        self.not_ready = dict(not_ready or {})
        self.after: dict[str, str | int] = {}
        self.ends_at: dict[str, str] = {}
        """The service that ends while another one is restarted, by that one's name."""
        self.fails_at: dict[str, str] = {}
        """The service that is not ready any more while another one is restarted, by that one's name."""
        self.restarts: list[str] = []

    def why_not_ready(self, url: str, *, path: str = READY) -> str | None:
        name = url.removeprefix("http://")
        assert path == (ALIVE if url == self.dashboard else READY)
        return "it does not answer" if name in self.ended - self.by_hand.keys() else self.not_ready.get(name)

    def runs(self, name: str) -> bool:
        return name not in self.ended

    def port_holder(self, name: str) -> str | None:
        assert name in self.ended, "its own process has the port"
        return self.by_hand.get(name)

    def restart(self, name: str) -> Restarted:
        self.restarts.append(name)
        self.ended.discard(name)
        self.not_ready.pop(name, None)
        self.ended |= {self.ends_at[name]} if name in self.ends_at else set()
        self.not_ready |= {self.fails_at[name]: "its store is damaged"} if name in self.fails_at else {}
        after = self.after.get(name)
        if after == "not at all":
            raise StartFailed("its port is in use")
        if after is not None:
            self.not_ready[name] = "it does not answer" if isinstance(after, int) else after
        return Restarted(after if isinstance(after, int) else None)


Rolled = Callable[..., list[str]]


@pytest.fixture
def rolled(monkeypatch: pytest.MonkeyPatch) -> Rolled:
    def run(system: System, unwanted: Callable[[], bool] = lambda: False) -> list[str]:
        monkeypatch.setattr("infra.local.rolling.why_not_ready", system.why_not_ready)
        said: list[str] = []
        roll(system, said.append, unwanted, ready_s=0.0)
        return said

    return run


def test_all_are_restarted_in_turn_and_keeper_and_dashboard_last(rolled: Rolled) -> None:
    system = System()

    said = rolled(system)

    assert system.restarts == ["order", "product", "point", "keeper", "dashboard"]
    assert [line.partition(":")[0] for line in said] == [
        *("order_svc", "order_svc", "product_svc", "product_svc", "point_svc", "point_svc", "keeper", "dashboard"),
    ]


def test_what_does_not_run_comes_first_and_then_what_is_not_ready(rolled: Rolled) -> None:
    system = System(ended=("point",), not_ready={"product": "its store is damaged"})

    said = rolled(system)

    assert system.restarts == ["point", "product", "order", "keeper", "dashboard"]
    assert said[0] == "point_svc: it does not run, starting"


def test_one_that_was_started_by_hand_is_left_and_named_and_all_others_are_restarted(rolled: Rolled) -> None:
    system = System(ended=("order", "point"))
    system.by_hand["order"] = "process 17 runs order_svc, which was started by hand: `kill -TERM 17`"

    with pytest.raises(RollStopped) as stopped:
        rolled(system)

    assert str(stopped.value) == (
        "all others are restarted, and order_svc not: process 17 runs order_svc, which was started by hand: "
        "`kill -TERM 17`, then `just roll`"
    )
    assert system.restarts == ["point", "product", "keeper", "dashboard"]


def test_one_that_was_started_by_hand_and_is_not_ready_holds_up_what_runs(rolled: Rolled) -> None:
    system = System(ended=("order",), not_ready={"order": "its store is damaged"})
    system.by_hand["order"] = "process 17 runs order_svc"

    with pytest.raises(RollStopped, match="order_svc is not ready: its store is damaged"):
        rolled(system)

    assert system.restarts == []


def test_one_that_ends_meanwhile_comes_before_one_that_is_not_ready_any_more(rolled: Rolled) -> None:
    system = System()
    system.ends_at["order"] = "point"
    system.fails_at["order"] = "product"

    rolled(system)

    assert system.restarts == ["order", "point", "product", "keeper", "dashboard"]


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (2, "product_svc did not come back: it ended with exit code 2 while it was starting"),
        ("no session", "product_svc did not come back: it was not ready within 0 s: no session"),
        ("not at all", "product_svc did not come back: its port is in use"),
    ],
)
def test_one_that_does_not_come_back_ends_the_roll(rolled: Rolled, after: str | int, why: str) -> None:
    system = System()
    system.after["product"] = after

    with pytest.raises(RollStopped) as stopped:
        rolled(system)

    assert str(stopped.value).startswith(why)
    assert str(stopped.value).endswith("Not restarted: point_svc")
    assert system.restarts == ["order", "product"]


def test_while_two_are_not_ready_none_is_restarted(rolled: Rolled) -> None:
    system = System(not_ready={"order": "no session", "point": "paused"})

    with pytest.raises(RollStopped, match="point_svc is not ready: paused"):
        rolled(system)

    assert system.restarts == []


@pytest.mark.parametrize(
    ("during", "restarts", "left"),
    [("product", ["order", "product"], "point_svc"), ("point", ["order", "product", "point"], "keeper, dashboard")],
)
def test_one_that_ends_after_its_restart_ends_the_roll(
    rolled: Rolled, during: str, restarts: list[str], left: str
) -> None:
    system = System()
    system.ends_at[during] = "order"

    with pytest.raises(RollStopped) as stopped:
        rolled(system)

    assert str(stopped.value).startswith("order_svc is not ready: it does not answer. ")
    assert str(stopped.value).endswith(f"Not restarted: {left}")
    assert system.restarts == restarts


def test_it_ends_between_two_services_once_nobody_wants_it(rolled: Rolled) -> None:
    system = System()

    with pytest.raises(RollStopped, match="nobody waits for it any more; not restarted: product_svc, point_svc"):
        rolled(system, unwanted=lambda: bool(system.restarts))

    assert system.restarts == ["order"]


def test_a_keeper_that_does_not_come_back_is_said(rolled: Rolled) -> None:
    system = System()
    system.after["keeper"] = "not at all"

    with pytest.raises(
        RollStopped, match=r"the keeper did not come back: its port is in use\. Not restarted: dashboard"
    ):
        rolled(system)


@pytest.mark.parametrize(("after", "why"), [("not at all", "its port is in use"), (2, "it ended with exit code 2")])
def test_a_dashboard_that_does_not_come_back_is_said(rolled: Rolled, after: str | int, why: str) -> None:
    system = System()
    system.after["dashboard"] = after

    with pytest.raises(RollStopped, match=f"all else is restarted, but the dashboard did not come back: {why}"):
        rolled(system)
