"""A log record comes back from Kafka as it went, is ordered by its subject, and what is no record is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadInputError
from broker.kafka_records import decode_log_record, encode_log_record, encode_log_records
from broker.kafka_topics import FRAMES, REFERENCE
from broker.logrecord import Kind, LogRecord
from broker.reference import AthleteRef, BindingRef, ErasureRef, MergeRef, Reference, RulingRef, SegmentRef, UploadRef, encode_reference

UPLOAD = UploadRef(tenant="gym", id="f-1", athlete="ann", name="ride.fit", format="fit", first_us=1, last_us=2)
words = st.text(st.characters(codec="utf-8"), max_size=40)
records = st.builds(
    LogRecord,
    kind=st.sampled_from([int(Kind.FRAME), int(Kind.WAKE)]),
    key=words,
    tenant=words,
    node=words,
    appended_us=st.integers(-(2**62), 2**62),
    body=st.binary(max_size=2_000),
    kid=st.integers(0, 65_535),
)


def reference(value: Reference) -> LogRecord:
    return LogRecord(Kind.REFERENCE, value.tenant, value.tenant, "", 1_790_000_000_000_000, encode_reference(value))


@given(records)
def test_frame_and_wake_come_back_as_they_went_and_lie_at_their_subject(record: LogRecord) -> None:
    sent = encode_log_record(record)
    assert (sent.topic, sent.key, sent.value) == (FRAMES, record.key.encode(), record.body)
    assert decode_log_record(sent.key, sent.value, sent.headers) == record


@given(st.lists(records, max_size=20))
def test_many_records_are_encoded_as_each_is_alone(several: list[LogRecord]) -> None:
    mixed = [*several, reference(SegmentRef(tenant="gym", id="hill", name="Hill")), *several]
    assert list(encode_log_records(mixed)) == [tuple(encode_log_record(record)) for record in mixed]


@given(
    records,
    st.lists(st.tuples(st.text(max_size=5).filter(lambda n: n not in {"kind", "tenant", "node", "appended_us", "kid"}), st.binary())),
)
def test_headers_nobody_knows_and_their_order_change_nothing(record: LogRecord, others: list[tuple[str, bytes]]) -> None:
    sent = encode_log_record(record)
    assert decode_log_record(sent.key, sent.value, [*others, *reversed(sent.headers)]) == record


@pytest.mark.parametrize(
    ("value", "topic", "key"),
    [
        (SegmentRef(tenant="gym", id="hill", name="Hill"), REFERENCE, b"gym/segment/hill"),
        (AthleteRef(tenant="gym", id="ann", name="Ann"), REFERENCE, b"gym/athlete/ann"),
        (BindingRef(tenant="gym", id="b1", device="strap", athlete="ann"), REFERENCE, b"gym/binding/b1"),
        (RulingRef(tenant="gym", id="e1", decision="flag"), REFERENCE, b"gym/ruling/e1"),
        (MergeRef(tenant="gym", id="ann", into="anna"), REFERENCE, b"gym/merge/ann"),
        (ErasureRef(tenant="gym", id="ann"), REFERENCE, b"gym/erasure/ann"),
        (UPLOAD, FRAMES, b"gym/ann"),
    ],
)
def test_reference_data_is_compacted_by_its_id_and_an_upload_stands_beside_its_frames(value: Reference, topic: str, key: bytes) -> None:
    record = reference(value)
    sent = encode_log_record(record)
    assert (sent.topic, sent.key) == (topic, key)
    assert decode_log_record(sent.key, sent.value, sent.headers) == record


def test_reference_record_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(BadInputError, match="reference"):
        encode_log_record(LogRecord(Kind.REFERENCE, "gym", "gym", "", 1, b"{}"))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"kind": None}, "kind"), ({"kind": b"sample"}, "sample"), ({"tenant": None}, "NoneType"), ({"node": b"\xff"}, "invalid start"), ({"appended_us": b"now"}, "now")],
)  # fmt: skip
def test_what_is_no_record_is_named_with_its_place(change: dict[str, bytes | None], said: str) -> None:
    sent = encode_log_record(LogRecord(Kind.FRAME, "gym/ann", "gym", "box", 1, b"x"))
    headers: dict[str, bytes | None] = {**dict(sent.headers), **change}
    if change == {"kind": None}:
        del headers["kind"]
    with pytest.raises(BadInputError, match=rf"telemetry.frames 3@7: .*{said}(?s:.*)cure"):
        decode_log_record(sent.key, sent.value, headers.items(), "telemetry.frames 3@7")


@given(
    st.none() | st.binary(max_size=9),
    st.none() | st.binary(max_size=9),
    st.lists(st.tuples(st.text(max_size=9).filter(lambda name: name != "kind"), st.none() | st.binary())),
)
def test_any_bytes_without_a_kind_are_a_named_error(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    with pytest.raises(BadInputError, match="cure"):
        decode_log_record(key, value, headers)
