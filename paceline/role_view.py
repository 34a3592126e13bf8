"""What the running roles of a data folder say of themselves: each leaves the address of its figures and health in `<data>/metrics/`."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from paceline.watched import METRICS_FOLDER

TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class RoleView:
    """Where one process of a role answers."""

    role: str
    host: str
    port: int

    def get(self, path: str) -> tuple[int, str]:
        """(status, text) of `/metrics`, `/healthz` or `/readyz`. OSError when nobody answers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except http.client.HTTPException as error:
            raise OSError(f"no answer: {error}") from error
        finally:
            connection.close()

    def role_there(self) -> str:
        """The role of the process that answers. OSError when nobody does."""
        return cast("str", self._said("/readyz", "role"))

    def stands_still(self) -> list[str]:
        """The loops that do not move; empty while it lives. OSError when nobody answers."""
        return cast("list[str]", self._said("/healthz", "stands_still"))

    def reasons(self) -> dict[str, str]:
        """Why it is not ready, by name; empty while it is. OSError when nobody answers."""
        return cast("dict[str, str]", self._said("/readyz", "reasons"))

    def _said(self, path: str, name: str) -> Any:
        try:
            return json.loads(self.get(path)[1])[name]
        except (ValueError, KeyError, TypeError) as error:
            raise OSError("what answers there is none of our processes") from error


def role_views(data: Path) -> list[RoleView]:
    """The roles that started in this folder and did not end in order, by name."""
    found: list[RoleView] = []
    for path in sorted((data / METRICS_FOLDER).glob("*.json")):
        try:
            said = json.loads(path.read_text("utf-8"))
            found.append(RoleView(path.stem, str(said["host"]), int(said["port"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it ended meanwhile
    return found
