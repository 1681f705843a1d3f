"""The AsyncAPI document in docs/ is what the contracts say."""

import json
import re

import pytest

from contracts.asyncapi import document, render
from contracts.wire import FACTS
from infra.local.services import ROOT, service_names
from infra.process.build import installed_version
from ops.errors import Unusable
from ops.flow.command import asyncapi_of, parts


def test_the_document_in_docs_is_generated_from_the_facts() -> None:
    assert (ROOT / "docs" / "asyncapi.json").read_bytes() == render(), "run `just docs`"


def test_every_fact_has_a_channel_under_its_subject() -> None:
    addresses = {channel["address"] for channel in document()["channels"].values()}
    assert addresses == {f"{name}.{{{fact.key_field}}}" for name, fact in FACTS.items()}


@pytest.mark.parametrize("service", service_names())
def test_a_services_document_has_what_it_says_and_hears(service: str) -> None:
    flow = parts()
    made = json.loads(asyncapi_of(flow, service))
    (part,) = (one for one in flow if one.service == service)
    names = {title: message["name"] for title, message in made["components"]["messages"].items()}

    def of(action: str) -> set[str]:
        operations = [one for one in made["operations"].values() if one["action"] == action]
        return {names[one["channel"]["$ref"].rpartition("/")[2]] for one in operations}

    assert of("send") == {fact for act in part.acts for fact in act.says}
    assert of("receive") == {fact for act in part.acts for fact in act.hears}
    assert made["info"] | {"description": ""} == {
        "title": f"{service}_svc",
        "version": installed_version(),
        "description": "",
    }
    roles = {names[title]: one["x-eventcatalog-role"] for title, one in made["components"]["messages"].items()}
    assert {name for name, role in roles.items() if role == "provider"} == of("send")
    assert all(one["tags"] == [{"name": f"{service}_svc"}] for one in made["operations"].values())


@pytest.mark.parametrize("service", service_names())
def test_a_services_document_is_whole_and_has_nothing_else(service: str) -> None:
    made = json.loads(asyncapi_of(parts(), service))
    text = json.dumps(made)
    named = set(re.findall(r'"\$ref": "#/([^"]+)"', text))

    for path in named:
        part = made
        for name in path.split("/"):
            part = part[name]
    schemas = {path.rpartition("/")[2] for path in named if path.startswith("components/schemas/")}
    assert schemas == set(made["components"]["schemas"])


def test_a_service_that_is_not_there_is_named() -> None:
    with pytest.raises(Unusable, match="there is no service gift; there are: order, "):
        asyncapi_of(parts(), "gift")


def test_every_payload_is_told_apart_by_its_type() -> None:
    schemas = document()["components"]["schemas"]
    assert {schemas[fact.__name__]["properties"]["type"]["enum"][0] for fact in FACTS.values()} == set(FACTS)
