"""Errors as problem documents (RFC 9457): what was wrong and what to do about it, for people and programs.

Everything below `/api` answers this way, whoever refused: a route, a missing path, a field of a body, a store.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from broker.errors import BadInputError, PacelineError
from broker.view_part import HEADER, ViewPart, number_of
from processors.api.models import Problem

_log = logging.getLogger(__name__)

KIND: Final = "application/problem+json"
_CURES: Final = {
    404: "see docs/api.md for the routes",
    405: "see docs/api.md for the methods of this route",
    413: "send less at once",
}


class RefusedError(Exception):
    """A request that is answered with a problem."""

    def __init__(self, status: int, detail: str, cure: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.cure = cure


class ElsewhereError(RefusedError):
    """A request of a tenant that another API serves: `part` is that of its view, and a header of the answer says so to proxies."""

    def __init__(self, tenant: str, here: ViewPart) -> None:
        self.part = ViewPart(number_of(tenant, here.of), here.of)
        super().__init__(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"tenant {tenant} is in part {self.part} of the view, this API serves part {here}",
            f"ask the API whose view.part is {self.part}; see docs/kafka.md, Parts of the view",
        )


def not_found(what: str, cure: str) -> RefusedError:
    """There is no such thing for this reader."""
    return RefusedError(404, f"there is no {what}", cure)


def body_of(status: int, detail: str, cure: str) -> bytes:
    """The document."""
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, cure=cure).model_dump_json().encode()


def answer_of(error: RefusedError) -> Response:
    """The response to a refused request."""
    return Response(body_of(error.status, error.detail, error.cure), error.status, headers_of(error), KIND)


def headers_of(error: RefusedError) -> dict[str, str]:
    """What an answer says in its headers of why it was refused."""
    if isinstance(error, ElsewhereError):
        return {HEADER: str(error.part)}
    return {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else {}


def refusal_of(error: PacelineError) -> RefusedError:
    """Bad input is the asker's, anything else ours for the moment."""
    return RefusedError(400 if isinstance(error, BadInputError) else 503, error.message, error.cure or "try again in a moment")


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem."""

    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        return answer_of(error)

    async def ours(_request: Request, error: Exception) -> Response:
        assert isinstance(error, PacelineError)
        return answer_of(refusal_of(error))

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return answer_of(RefusedError(422, f"{where}: {first['msg']}", "see docs/openapi.json for what this route takes"))

    async def http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer_of(RefusedError(error.status_code, str(error.detail), _CURES.get(error.status_code, "see docs/api.md")))

    async def unexpected(request: Request, error: Exception) -> Response:
        _log.error("api: %s %s: %r", request.method, request.url.path, error)
        return answer_of(RefusedError(500, "this request failed here", "look into the platform's log"))

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(PacelineError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)
