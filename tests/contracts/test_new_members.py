"""A new reason, fact or step that was forgotten somewhere is refused: by mypy, or by the service's start."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, get_args

import pytest

from contracts import coupon, order, point, product
from contracts.wire import FACTS, must_hear, said_by
from infra.local.services import ROOT
from infra.process.service import run
from order_svc.__main__ import SERVICE as ORDER
from point_svc.__main__ import SERVICE as POINT

NEW_REASON: Final = {
    "contracts/fact.py": {
        '"deadline-exceeded", "customer-canceled"]': '"deadline-exceeded", "customer-canceled", "shop-closed"]'
    }
}
NEW_FACT: Final = {
    "contracts/point.py": {
        "\n\nPointSays = ": (
            '\n\nclass PointLost(AccountFact, frozen=True, kw_only=True, tag="point.lost"):\n    """."""\n\n\n'
            "PointSays = "
        ),
        "    | PointUseVoided\n": "    | PointUseVoided\n    | PointLost\n",
    }
}

IN_THE_DOMAIN: Final = {
    "point_svc/domain/account.py": {
        "| PointCredited\nEarlier": "| PointCredited | PointLost\nEarlier",
        "    PointDeposited,\n": "    PointDeposited,\n    PointLost,\n",
    }
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for part in ("contracts", "infra", "ops", *(path.name for path in ROOT.glob("*_svc"))):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def change(copy: Path, changes: Mapping[str, Mapping[str, str]]) -> None:
    for name, texts in changes.items():
        text = (copy / name).read_text()
        for old, new in texts.items():
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        (copy / name).write_text(text)


def said(copy: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("changes", "file"),
    [
        pytest.param(NEW_REASON, "contracts/fact.py", id="a reason that is not known to be the customer's or not"),
        pytest.param(NEW_FACT, "ops/invariants/points.py", id="a fact that the checker has no course for"),
        pytest.param(NEW_FACT, "point_svc/domain/account.py", id="a fact that the state does not take"),
    ],
)
def test_mypy_refuses(copy: Path, changes: Mapping[str, Mapping[str, str]], file: str) -> None:
    if file in IN_THE_DOMAIN:
        change(copy, IN_THE_DOMAIN)
    change(copy, changes)

    found = said(copy, "-m", "mypy", "--follow-imports=silent", "--no-incremental", file)
    assert f"{file}:" in found
    assert 'Argument 1 to "assert_never"' in found


def test_a_reason_without_words_is_refused_by_the_start_of_order_svc(copy: Path) -> None:
    change(copy, NEW_REASON)
    change(copy, {"contracts/fact.py": {'case "customer-canceled":': 'case "customer-canceled" | "shop-closed":'}})

    assert "shop-closed" in said(copy, "-c", "import order_svc.__main__")


def test_a_service_without_a_reaction_that_its_step_needs_is_refused() -> None:
    for service, lacking in ((POINT, "order.canceled"), (POINT, "coupon.use.failed"), (ORDER, "point.use.failed")):
        reactions = {fact: react for fact, react in service.reactions.items() if fact is not FACTS[lacking]}
        with pytest.raises(TypeError, match=f"{service.name}_svc has no reaction to {lacking}"):
            run(replace(service, reactions=reactions))
    assert must_hear("nobody") == frozenset()


def test_the_union_of_what_a_service_says_has_all_its_facts() -> None:
    says = {
        "order": order.OrderSays,
        "product": product.ProductSays,
        "point": point.PointSays,
        "coupon": coupon.CouponSays,
    }

    for service, union in says.items():
        assert set(get_args(union)) == {fact for name, fact in FACTS.items() if said_by(name) == service}
