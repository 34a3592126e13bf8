"""The OpenAPI document of the API, as it is checked in (docs/openapi.json)."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from processors.api.app import close_app, create_app
from processors.api.services import ApiOptions, Services
from processors.reads import Reads
from processors.state_db import StateDb


class _Nothing:
    """A view that shows nothing."""

    def snapshot(self, tenant: str) -> dict[str, Any]:
        return {"tenant": tenant}


def openapi_json() -> str:
    """The document, with a line end behind it; the same for the same code."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.db"
        StateDb(state).close()
        reads = Reads(state)
        app = create_app(Services(_Nothing(), reads), ApiOptions("gym"))
        try:
            text = json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"
            return text.replace("Unprocessable Content", "Unprocessable Entity")  # Python 3.13 has a new phrase for 422
        finally:
            close_app(app)
            reads.close()
