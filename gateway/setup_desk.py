"""The set-up of one box: what a request to its page comes to. The shell between page, code, form, broker and file.

A form counts only with the code of the screen, and is kept only once the broker took the credential. One form at a time. After that
the page shows the state and takes nothing any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from broker.enrolment import EnrolmentCode, read_enrolment_code
from broker.errors import LinkError, PacelineError, StoreError
from gateway.enrolment import enrol
from gateway.identity import Identity
from gateway.setup_code import SetupCode
from gateway.setup_credential import IDENTITY_FOLDER, BoxCredential, credential_of_identity, save_credential
from gateway.setup_form import Form, again, credential_of, typed
from gateway.setup_http import Answer, Request
from gateway.setup_page import BoxView, done_page, form_page, state_page
from gateway.sightings import read_devices

log = logging.getLogger(__name__)

Try = Callable[[BoxCredential, Path], Awaitable[LinkError | None]]
Enrol = Callable[[EnrolmentCode, Path], Identity]


class SetupDesk:
    """`answer` is for the server. `await set_up()` gives the credential once it is kept; `view` is asked for the state from then on."""

    def __init__(self, data_dir: Path, code: SetupCode | None, try_credential: Try, *, stays: bool, enrol: Enrol = enrol) -> None:
        self._data_dir = data_dir
        self._code = code
        self._try = try_credential
        self._enrol = enrol
        self._stays = stays
        self._one = asyncio.Lock()
        self._kept: asyncio.Future[BoxCredential] = asyncio.get_running_loop().create_future()
        self.view: Callable[[], BoxView] | None = None

    async def set_up(self) -> BoxCredential:
        """Wait for it."""
        return await self._kept

    async def answer(self, request: Request) -> Answer:
        """The page, or what came of the form."""
        if request.path != "/":
            return Answer(HTTPStatus.NOT_FOUND, "there is one page here: /")
        if request.method == "GET":
            return Answer(HTTPStatus.OK, self._page(request))
        if request.method != "POST":
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED, "GET and POST only")
        async with self._one:
            if self._code is None:
                return Answer(HTTPStatus.SEE_OTHER, location="/")
            return await self._take(self._code, typed(request.body))

    def _page(self, request: Request) -> str:
        if self._code is not None:
            form = Form()
            return form_page(Form({**form.values, "code": request.query.get("code", "")[:16]}), self._devices())
        return done_page(stays=self._stays) if self.view is None else state_page(self.view(), self._devices())

    async def _take(self, code: SetupCode, values: dict[str, str]) -> Answer:
        if (wait_s := code.wait_s()) > 0:
            return self._again(
                values, {"code": f"too many wrong codes: try again in {round(wait_s + 0.5)} s"}, HTTPStatus.TOO_MANY_REQUESTS
            )
        if not code.is_right(values.get("code", "")):
            log.warning("set-up page: a wrong code was given")
            return self._again(values, {"code": "not the code of this box: it is on its screen and in its log"}, HTTPStatus.FORBIDDEN)
        if values.get("enrolment"):
            try:
                credential = await asyncio.to_thread(self._enrolled, values["enrolment"])
            except PacelineError as refused:
                return self._again(values, {"enrolment": _told(refused)}, HTTPStatus.UNPROCESSABLE_ENTITY)
        else:
            credential = credential_of(values)
        if isinstance(credential, Form):
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, form_page(credential, self._devices()))
        if (error := await self._try(credential, self._data_dir)) is not None:
            return self._again(values, {"": _told(error)}, HTTPStatus.BAD_GATEWAY)
        try:
            await asyncio.to_thread(save_credential, self._data_dir, credential)
        except StoreError as failure:
            return self._again(values, {"": _told(failure)}, HTTPStatus.INSUFFICIENT_STORAGE)
        self._code = None
        self._kept.set_result(credential)
        log.info("set up as %s at %s:%d", credential.username, credential.host, credential.port)
        return Answer(HTTPStatus.OK, done_page(stays=self._stays))

    def _enrolled(self, line: str) -> BoxCredential:
        """Enrol this box by a code. Tried again with the same code it is the same key, so a broker that was away costs no code."""
        return credential_of_identity(self._enrol(read_enrolment_code(line), self._data_dir / IDENTITY_FOLDER))

    def _again(self, values: dict[str, str], wrong: dict[str, str], status: HTTPStatus) -> Answer:
        return Answer(status, form_page(again(values, wrong), self._devices()))

    def _devices(self) -> list[dict[str, Any]]:
        try:
            document = read_devices(self._data_dir)
        except StoreError:
            return []
        return list(document["devices"]) if document else []


def _told(error: PacelineError) -> str:
    return f"{error.message}. {error.cure[:1].upper()}{error.cure[1:]}."
