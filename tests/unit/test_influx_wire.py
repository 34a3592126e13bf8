"""What answers of InfluxDB mean, and what becomes of a connection."""

from __future__ import annotations

import socket
import threading
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadInputError, ConfigError, LinkError
from broker.influx import InfluxSettings
from paceline.config import load
from processors.influx_packing import pack
from processors.influx_wire import MOST_WAIT_S, Meaning, WriteLink, judge

NOW_S = 1_790_000_000.0


@pytest.mark.parametrize(
    ("status", "said", "meaning"),
    [
        (204, "", Meaning.DONE),
        (200, "", Meaning.DONE),
        (429, "slow down", Meaning.AGAIN),
        (503, "", Meaning.AGAIN),
        (500, "", Meaning.AGAIN),
        (502, "", Meaning.AGAIN),
        (408, "", Meaning.AGAIN),
        (413, "", Meaning.SPLIT),
        (400, "unable to parse 'x': missing fields", Meaning.BAD),
        (400, "partial write: field type conflict: ... dropped=1", Meaning.BAD),
        (422, "failure writing points to database: partial write: field type conflict", Meaning.BAD),
        (422, "partial write: points beyond retention policy dropped=3", Meaning.EXPIRED),
        (422, "partial write: dropped 1 points outside retention policy of duration 48h0m0s - oldest point ...", Meaning.EXPIRED),
        (422, "partial write: dropped 1 points outside retention policy of duration 48h0m0s; field type conflict", Meaning.BAD),
        (400, "partial write: points beyond retention policy dropped=3; field type conflict", Meaning.BAD),
        (401, "unauthorized access", Meaning.STOPPED),
        (403, "", Meaning.STOPPED),
        (404, "bucket not found", Meaning.STOPPED),
        (301, "", Meaning.STOPPED),
    ],
)
def test_each_answer_has_one_meaning(status, said, meaning):
    assert judge(status, said, None, NOW_S).meaning == meaning


@given(st.integers(100, 599), st.text(max_size=30), st.one_of(st.none(), st.text(max_size=30)))
def test_no_answer_is_too_odd_and_waits_are_bounded(status, said, retry_after) -> None:
    verdict = judge(status, said, retry_after, NOW_S)
    assert verdict.wait_s is None or 0 <= verdict.wait_s <= MOST_WAIT_S


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_needs_help_says_the_cure(status):
    assert "paceline influx setup" in judge(status, "", None, NOW_S).cure


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [("7", 7.0), (" 0 ", 0.0), ("99999", MOST_WAIT_S), (formatdate(NOW_S + 30, usegmt=True), 30.0), (formatdate(NOW_S - 30, usegmt=True), 0.0), ("soon", None), ("", None), ("-5", None)],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(text, wait_s):
    assert judge(503, "", text, NOW_S).wait_s == wait_s


class Server:
    """Answers each connection of a list with what it is given, byte for byte; None: closes at once."""

    def __init__(self, *answers: bytes | None) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.requests: list[bytes] = []
        self.thread = threading.Thread(target=self._serve, args=(answers,), daemon=True)
        self.thread.start()

    def _serve(self, answers: tuple[bytes | None, ...]) -> None:
        for answer in answers:
            connection, _ = self.socket.accept()
            with connection:
                if answer is None:
                    continue
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(65536)
                head, _, body = data.partition(b"\r\n\r\n")
                length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                while len(body) < length:
                    body += connection.recv(65536)
                self.requests.append(head)
                connection.sendall(answer)

    def link(self, **more: object) -> WriteLink:
        port = self.socket.getsockname()[1]
        return WriteLink(InfluxSettings.model_validate({"url": f"http://127.0.0.1:{port}", "token": "sesame", "timeout_s": 20, **more}))

    def close(self) -> None:
        self.thread.join(60)
        self.socket.close()


NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


def test_a_request_names_bucket_unit_token_and_coding():
    server = Server(NO_CONTENT)
    link = server.link(org="my org", bucket="x_{bucket}/autogen")
    assert link.write("live", "us", pack(b"m f=1i 1\n")).meaning == Meaning.DONE
    head = server.requests[0].decode()
    assert "POST /api/v2/write?org=my+org&bucket=x_live%2Fautogen&precision=us HTTP/1.1" in head
    assert "Authorization: Token sesame" in head
    assert "Content-Encoding: gzip" in head
    link.close()
    server.close()


def test_token_read_with_its_line_end_is_taken_without_and_one_that_fits_no_header_is_refused_unsaid(tmp_path):
    assert InfluxSettings.model_validate({"token": "sesame-street\r\n"}).token.get_secret_value() == "sesame-street"
    for wrong in ("sesame\nstreet", "sesame-stra\u00dfe"):
        with pytest.raises(ConfigError, match="token") as raised:
            load(None, {"PACELINE_INFLUX__TOKEN": wrong}, {"data": tmp_path})
        assert "sesame" not in str(raised.value)


def test_a_connection_that_the_server_ended_while_idle_is_made_again_at_once():
    server = Server(NO_CONTENT, NO_CONTENT)
    link = server.link()
    for _ in range(2):
        assert link.write("live", "us", b"").meaning == Meaning.DONE
    assert link.connects == 2
    link.close()
    server.close()


@pytest.mark.parametrize("answer", [None, b"", b"HTTP/1.1 2", b"HTTP/1.1 400 Bad\r\nContent-Length: 50\r\n\r\n{", b"nonsense\r\n\r\n"])
def test_no_answer_or_half_of_one_is_a_broken_link(answer):
    server = Server(answer)
    link = server.link()
    with pytest.raises(LinkError, match="InfluxDB at"):
        link.write("live", "us", b"x")
    link.close()
    server.close()


def test_the_words_of_the_server_are_found_in_its_json_or_its_text():
    json = b'{"code":"invalid","message":"unable to parse"}'
    server = Server(*(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body) for body in (json, b"plain words", b"[1]")))
    said = []
    for _ in range(3):
        link = server.link()
        said.append(link.write("live", "us", b"x").said)
        link.close()
    assert said == ["unable to parse", "plain words", "[1]"]
    server.close()


def test_closing_from_elsewhere_ends_a_request_that_waits():
    server = socket.create_server(("127.0.0.1", 0))
    link = WriteLink(InfluxSettings.model_validate({"url": f"http://127.0.0.1:{server.getsockname()[1]}", "timeout_s": 60}))
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(LinkError):
            link.write("live", "us", b"x")
        ended.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    connection, _ = server.accept()
    while not connection.recv(65536):
        pass
    link.close()
    assert ended.wait(60)
    thread.join(60)
    connection.close()
    server.close()


def test_a_certificate_that_is_not_there_is_an_error_with_a_cure(tmp_path):
    with pytest.raises(BadInputError, match=r"influx\.cafile"):
        WriteLink(InfluxSettings.model_validate({"url": "https://localhost:1", "cafile": str(tmp_path / "none.pem")}))
