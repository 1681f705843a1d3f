"""The justfile: the only way anything is started, tried or checked, and its own manual."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from infra.local.services import ROOT, service_names

ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
ARGUMENTS = {
    "service": ["order"],
    "place": ["--user", "u 1", "p1:2"],
    "export": ["--from", "2026-01-31T00:00:00+09:00"],
    "rebuild": ["popular"],
    "trace": ["o1"],
    "at": ["order", "o1"],
    "what-if": ["--history", "history.jsonl"],
    "nats-cli-order": ["2e86ac2065f70ff4b21b2634a80468d3"],
    "test": ["tests/domain", "-k", "coupon or point"],
}


def just(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["just", *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False
    )


RECIPES: dict[str, Any] = {
    name: recipe
    for name, recipe in json.loads(just("--dump", "--dump-format", "json").stdout)["recipes"].items()
    if not recipe["private"]
}


def test_just_alone_lists_the_recipes_in_groups() -> None:
    listed = just()
    assert listed.returncode == 0
    groups = [line.strip() for line in listed.stdout.splitlines() if line.strip().startswith("[")]
    assert groups == ["[try]", "[run]", "[operate]", "[check]", "[tidy]"]
    assert all(name in listed.stdout for name in RECIPES)


def test_every_recipe_there_should_be_is_there() -> None:
    assert {"up", "nats", "order", "product", "point", "coupon", "demo", "place", "test", "check", "clean"} <= set(
        RECIPES
    )


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_short_and_says_what_it_is_for(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe["doc"]
    assert [attribute for attribute in recipe["attributes"] if "group" in attribute]
    assert len(recipe["body"]) <= 4
    assert len(recipe["body"]) + len(recipe["dependencies"]) >= 1


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_can_be_run(name: str) -> None:
    dry = just("--dry-run", name, *ARGUMENTS.get(name, []))
    assert dry.returncode == 0, dry.stderr
    assert dry.stderr.strip()


@pytest.mark.parametrize(
    ("name", "asking"), [*((name, "--help") for name in RECIPES), *((name, "-h") for name in ("up", "clean", "at"))]
)
def test_a_recipe_explains_itself_and_does_nothing(name: str, asking: str) -> None:
    asked = just(name, asking)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert len(asked.stdout.strip()) > 20


@pytest.mark.parametrize("name", ["up", "nats", "order", "goldens", "check", "clean", "pictures", "nats-cli-stream"])
def test_a_recipe_without_arguments_refuses_them(name: str) -> None:
    asked = just(name, "now")
    assert asked.returncode == 2
    assert "takes no arguments" in asked.stderr


def test_a_service_that_is_not_there_is_named_with_those_that_are() -> None:
    asked = just("service", "gift")
    assert asked.returncode == 2
    assert "gift_svc" in asked.stderr
    assert asked.stderr.endswith(f"the services are: {', '.join(service_names())}\n")


def test_a_service_may_have_the_name_by_which_status_calls_it() -> None:
    asked = just("service", "point_svc", "--help")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert "Run point_svc until" in asked.stdout


@pytest.mark.parametrize(("name", "why"), [("service", "name the service"), ("nats-cli-order", "name the order")])
def test_what_a_recipe_needs_is_named(name: str, why: str) -> None:
    asked = just(name)
    assert asked.returncode == 2
    assert why in asked.stderr


@pytest.mark.parametrize("name", ["up", "nats", "service", "export", "demo", "place", "test"])
def test_a_recipe_that_starts_a_process_becomes_it(name: str) -> None:
    """Otherwise a signal would end the shell and orphan the process."""
    assert just("--dry-run", name, *ARGUMENTS.get(name, [])).stderr.splitlines()[-1].startswith(("exec ", "case "))


def test_arguments_reach_the_command_as_they_were_given() -> None:
    placed = just("place", "--user", "u1", "p1:two pieces")
    assert placed.returncode == 2
    assert "'p1:two pieces'" in placed.stderr


@pytest.mark.parametrize("name", ["nats-cli-stream", "nats-cli-consumers", "nats-cli-order"])
def test_a_recipe_of_the_nats_cli_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    for program in ("just", "sh"):
        (tmp_path / program).symlink_to(shutil.which(program, path=ENVIRONMENT["PATH"]) or program)
    asked = subprocess.run(
        [tmp_path / "just", name, *ARGUMENTS.get(name, [])],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert asked.returncode == 2
    assert "go install github.com/nats-io/natscli/nats@" in asked.stderr


def test_a_recipe_that_needs_more_than_the_product_installs_it(tmp_path: Path) -> None:
    """`uv run` installs the product alone, so `just test` calls uv for the rest, once."""
    programs = {"uv": 'echo "$@"; : >"$0.ran"', "python": '[ -e "${0%python}uv.ran" ]', "pytest": "echo tested"}
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("just", "sh", "sed"):
        (tmp_path / name).symlink_to(shutil.which(name, path=ENVIRONMENT["PATH"]) or name)

    def test(*arguments: str) -> list[str]:
        done = subprocess.run(
            [tmp_path / "just", "test", *arguments],
            cwd=ROOT,
            env={"PATH": str(tmp_path), "UV": str(tmp_path / "uv")},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout.splitlines()

    for asking in ("--help", "-h"):
        first, second = test(asking)
        assert first.startswith("just test: All tests")
        assert "uv sync --inexact --all-groups" in second
    assert test() == ["sync -q --inexact --all-groups", "tested"]
    assert test() == ["tested"]
    assert test("--help") == ["tested"]


def test_the_lock_holds_every_pin_and_nothing_of_the_machine_it_was_made_on() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    assert [pin for pin in pins if f"\n{pin} " not in f"\n{lock}"] == []
    assert "://" not in lock
    assert "index" not in lock
