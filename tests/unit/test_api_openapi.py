"""The OpenAPI document that is checked in is that of the code."""

from __future__ import annotations

from pathlib import Path

from processors.api.openapi import openapi_json

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_checked_in_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text("utf-8") == openapi_json(), "run `paceline openapi --write docs/openapi.json`"
