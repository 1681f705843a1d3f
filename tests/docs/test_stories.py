"""The story at the top of each service is the code's: what it keeps, hears and says."""

import importlib
import pkgutil
import re

import pytest

from contracts.wire import FACTS, NAMES, said_by
from infra.local.services import service_names
from infra.process.service import Service


def story(name: str) -> dict[str, str]:
    """The lines of the service's docstring by their first word; a line that begins with blanks goes on."""
    text = importlib.import_module(f"{name}_svc").__doc__ or ""
    found = re.findall(r"^(keeps|hears|says) +(.*(?:\n +.*)*)", text, re.MULTILINE)
    return {word: " ".join(rest.split()) for word, rest in found}


def service(name: str) -> Service:
    found = pkgutil.resolve_name(f"{name}_svc.__main__:SERVICE")
    assert isinstance(found, Service)
    return found


def facts(text: str) -> list[str]:
    return re.split(r"[,;] ", text)


@pytest.mark.parametrize("name", service_names())
def test_it_hears_what_its_table_reacts_to(name: str) -> None:
    assert facts(story(name)["hears"]) == [NAMES[fact] for fact in service(name).reactions]


@pytest.mark.parametrize("name", service_names())
def test_it_says_the_facts_that_bear_its_name(name: str) -> None:
    assert facts(story(name)["says"]) == [fact for fact in FACTS if said_by(fact) == name]


@pytest.mark.parametrize("name", service_names())
def test_it_keeps_its_aggregates(name: str) -> None:
    aggregates = service(name).aggregates
    kept = [word.lower() for word in re.findall(r"\b([A-Z]\w+):", story(name)["keeps"])]

    assert set(kept) <= set(aggregates)
    assert len(kept) == len({aggregate.decide for aggregate in aggregates.values()})
