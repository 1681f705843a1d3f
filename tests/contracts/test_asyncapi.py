"""The AsyncAPI document in docs/ is what the contracts say."""

from contracts.asyncapi import document, render
from contracts.wire import FACTS
from infra.local.services import ROOT


def test_the_document_in_docs_is_generated_from_the_facts() -> None:
    assert (ROOT / "docs" / "asyncapi.json").read_bytes() == render(), "run `just docs`"


def test_every_fact_has_a_channel_under_its_subject() -> None:
    addresses = {channel["address"] for channel in document()["channels"].values()}
    assert addresses == {f"{name}.{{{fact.key_field}}}" for name, fact in FACTS.items()}


def test_every_payload_is_told_apart_by_its_type() -> None:
    schemas = document()["components"]["schemas"]
    assert {schemas[fact.__name__]["properties"]["type"]["enum"][0] for fact in FACTS.values()} == set(FACTS)
