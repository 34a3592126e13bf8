"""Accept: what is stored, refused and acknowledged of each message; and 20,000 mutants (1,000,000 in nightly) that break nothing."""

import json
import random
import resource
from collections import Counter

import pytest

from broker.acks import Ack, Refusal, decode_ack, encode_ack
from broker.bundles import MAX_N, encode_bundle
from broker.errors import Reason, Rejected
from broker.frames import SELF_NUMBERED, Clock, Frame, decode_frame, encode_frame
from broker.json_frames import encode_json_message
from broker.layouts import layout_named
from processors.accept import Accepted, accept, merged_acks
from processors.dead_letters import dead_counts, dead_letters, replay, show
from processors.dead_store import DeadCaps
from processors.log import SqliteLog

NOW_US = 1_790_000_000_000_000
EPOCH = 0xFEED
MOTION = layout_named("motion.1")
UP, UP_JSON = "pl/1/gym/box/up", "pl/1/gym/box/up/json"


def frame(seq=0, *, subject="gym/ann", utc_us=NOW_US, clock=Clock.NETWORK, flags=0, layout=1, records=None, ticks=(0, 1000)):
    if records is None:
        records = b"".join(MOTION.pack({"tick_ms": tick, "hr_bpm": 140}) for tick in ticks)
    offset = None if clock == Clock.UNKNOWN else utc_us - 5_000
    return Frame(layout, flags, "strap", 99, seq, 5_000, offset, int(clock), subject, records)


def bundle(*frames, first_n=10):
    return encode_bundle(EPOCH, first_n, [encode_frame(f) if isinstance(f, Frame) else f for f in frames])


def reasons(accepted):
    return [(d.n, d.reason) for d in accepted.dead]


def test_good_bundle_is_stored_under_its_subjects_and_acknowledged():
    result = accept(UP, bundle(frame(0), frame(1, subject=""), frame(2, subject="", flags=SELF_NUMBERED)), NOW_US)
    assert [r.key for r in result.records] == ["gym/ann", "gym/@box/strap", "gym/@strap"]
    assert [r.body for r in result.records] == [
        encode_frame(f) for f in (frame(0), frame(1, subject=""), frame(2, subject="", flags=SELF_NUMBERED))
    ]
    assert {(r.tenant, r.node, r.appended_us) for r in result.records} == {("gym", "box", NOW_US)}
    assert merged_acks([result]) == [("pl/1/gym/box/ack", encode_ack(Ack(EPOCH, ((10, 12),))))]
    assert result.dead == []


def test_subject_of_another_tenant_is_refused_alone():
    result = accept(UP, bundle(frame(0), frame(1, subject="rival/ann"), frame(2)), NOW_US)
    assert reasons(result) == [(11, Reason.WRONG_TENANT)]
    assert result.ack == Ack(EPOCH, ((10, 10), (12, 12)), (Refusal(11, 11, "wrong_tenant"),))


@pytest.mark.parametrize(
    ("shape", "refused"),
    [
        ({"utc_us": NOW_US + 299_000_000}, False),
        ({"utc_us": NOW_US + 299_000_000, "ticks": (0, 1001)}, True),
        ({"utc_us": NOW_US + 301_000_000}, True),
        ({"utc_us": NOW_US + 10**15, "clock": Clock.RECORDED}, False),
        ({"clock": Clock.UNKNOWN}, False),
        ({"utc_us": NOW_US + 301_000_000, "layout": 999, "records": b"?"}, True),
    ],
)
def test_only_a_last_record_dated_five_minutes_ahead_is_from_the_future(shape, refused):
    result = accept(UP, bundle(frame(**shape)), NOW_US)
    assert reasons(result) == ([(10, Reason.FUTURE_TIME)] if refused else [])


def test_platform_clock_that_was_never_set_proves_nobody_wrong():
    assert accept(UP, bundle(frame()), 3_000_000).dead == []


def test_unknown_layout_is_stored_and_counted():
    result = accept(UP, bundle(frame(layout=999, records=b"what is this")), NOW_US)
    assert (len(result.records), result.unknown_layouts, result.dead) == (1, 1, [])


def test_bad_rows_of_each_kind_are_refused_with_their_reason_and_neighbours_stored():
    good = encode_frame(frame())
    short = encode_frame(frame(layout=999, records=MOTION.pack({"tick_ms": 0})[:-1])).replace(b"\x9a\xcd\x03\xe7", b"\x9a\xcd\x00\x01")
    flagged = good[:2] + b"\x40" + good[3:]
    result = accept(UP, bundle(good, b"junk", short, flagged, good), NOW_US)
    assert reasons(result) == [(11, Reason.BAD_FRAME), (12, Reason.BAD_RECORDS), (13, Reason.RESERVED_FLAG)]
    assert result.ack.stored == ((10, 10), (14, 14))


def test_damaged_header_is_a_dead_letter_without_ack():
    message = bytearray(bundle(frame()))
    message[5] ^= 1
    result = accept(UP, bytes(message), NOW_US)
    assert (reasons(result), result.ack, result.records) == ([(None, Reason.BAD_BUNDLE)], None, [])


def test_torn_body_stores_the_whole_rows_and_refuses_the_rest():
    message = bundle(frame(0), frame(1), frame(2), frame(3))
    result = accept(UP, message[: 20 + 2 * (2 + len(encode_frame(frame(0)))) + 7], NOW_US)
    assert result.ack == Ack(EPOCH, ((10, 11),), (Refusal(12, 13, "bad_bundle"),))
    assert reasons(result) == [(12, Reason.BAD_BUNDLE), (13, Reason.BAD_BUNDLE)]
    assert len(result.records) == 2


def test_message_beyond_the_limit_is_refused_by_its_header_and_acknowledged():
    message = bundle(frame(0), frame(1)) + bytes(70_000)
    for result in (accept(UP, message, NOW_US), accept(UP, message[:1024], NOW_US, length=300_000)):
        assert result.ack == Ack(EPOCH, (), (Refusal(10, 11, "oversized"),))


def test_rows_beyond_the_last_number_are_refused_without_ack():
    raw = encode_frame(frame())
    message = encode_bundle(EPOCH, MAX_N - 3, [raw, raw])
    assert accept(UP, message, NOW_US).ack == Ack(EPOCH, ((MAX_N - 3, MAX_N - 2),))


@pytest.mark.parametrize("name", ["pl/1/gym/box/state", "pl/1/platform/x/up", "pl/2/gym/box/up", "", "pl/1/gym/box/up/\ufffd"])
def test_foreign_topic_is_a_dead_letter(name):
    result = accept(name, bundle(frame()), NOW_US)
    assert (reasons(result), result.records, result.ack) == ([(None, Reason.BAD_ID)], [], None)


def test_json_passes_the_same_checks_and_gets_a_json_ack():
    good, foreign = frame(0, flags=SELF_NUMBERED), frame(1, flags=SELF_NUMBERED, subject="rival/ann")
    future = frame(2, flags=SELF_NUMBERED, utc_us=NOW_US + 10**9)
    result = accept(UP_JSON, encode_json_message([good, foreign, future], EPOCH, 3), NOW_US)
    assert [r.body for r in result.records] == [encode_frame(good)]
    assert reasons(result) == [(4, Reason.WRONG_TENANT), (5, Reason.FUTURE_TIME)]
    [(name, ack)] = merged_acks([result])
    assert name == "pl/1/gym/box/ack/json"
    assert json.loads(ack) == {"epoch": f"{EPOCH:016x}", "stored": [[3, 3]], "refused": [[4, 4, "wrong_tenant"], [5, 5, "future_time"]]}


def test_json_without_epoch_is_stored_without_ack():
    result = accept(UP_JSON, encode_json_message([frame(flags=SELF_NUMBERED)]), NOW_US)
    assert (len(result.records), result.ack) == (1, None)


def test_acks_of_one_spool_are_merged_and_stay_decodable_however_many():
    results = [accept(UP, bundle(frame(n), first_n=n), NOW_US) for n in [*range(30), *range(100, 9000, 2)]]
    messages = merged_acks(results)
    acks = [decode_ack(payload) for _, payload in messages]
    assert all(isinstance(ack, Ack) for ack in acks)
    stored = {n for ack in acks for first, last in ack.stored for n in range(first, last + 1)}
    assert stored == {*range(30), *range(100, 9000, 2)}
    assert len(messages) < 10


def test_refused_row_sent_again_is_counted_once(tmp_path):
    with SqliteLog.open(tmp_path / "log.db") as log:
        for message in (bundle(frame(0), b"junk"), bundle(b"junk", b"more junk", first_n=11), bundle(b"junk", first_n=11)):
            log.append([], accept(UP, message, NOW_US).dead)
        header_gone = accept(UP, b"\xb1" + bytes(30), NOW_US).dead
        log.append([], header_gone)
        log.append([], header_gone)
        assert dead_counts(log).by_reason == {"bad_bundle": 1, "bad_frame": 2}
        assert [d.sent for d in dead_letters(log)] == [3, 1, 2]
        assert show(log, 1).letter.raw == b"junk"


def test_dead_letters_are_capped_and_the_dropped_counted(tmp_path):
    with SqliteLog.open(tmp_path / "log.db", caps=DeadCaps(count=10, raw_bytes=100)) as log:
        for n in range(30):
            log.append([], accept(UP, bundle(b"x" * 9, first_n=n), NOW_US).dead)
        counts = dead_counts(log)
        assert (counts.total, counts.dropped) == (30, 20)
        assert [d.letter.n for d in dead_letters(log)] == list(range(20, 30))
        log.append([], accept(UP, bundle(b"y" * 95, first_n=50), NOW_US).dead)
        assert [d.letter.n for d in dead_letters(log)] == [50]


def test_replay_after_a_fix_appends_once_and_keeps_what_is_still_bad(tmp_path):
    ahead = frame(1, utc_us=NOW_US + 10**9)
    as_json = encode_json_message([frame(2, utc_us=NOW_US + 10**9, flags=SELF_NUMBERED)], EPOCH, 77)
    with SqliteLog.open(tmp_path / "log.db") as log:
        log.append([], accept(UP, bundle(ahead, b"junk"), NOW_US).dead + accept(UP_JSON, as_json, NOW_US).dead)
        assert len(dead_letters(log)) == 3
        later = NOW_US + 2 * 10**9
        result = replay(log, [1, 2, 3], later)
        assert (result.records, result.done, result.still_refused) == (2, (1, 3), {2: "bad_bundle"})
        assert replay(log, [1, 2, 3], later).records == 0
        [first, second] = log.read(0, 10)[1]
        assert first.body == encode_frame(ahead)
        assert decode_frame(second.body).seq == 2
        assert [d.id for d in dead_letters(log)] == [2]
        assert [d.id for d in dead_letters(log, replayed=True)] == [1, 2, 3]


def seeds():
    frames = [frame(i, subject=s, flags=f) for i, (s, f) in enumerate([("gym/ann", 0), ("", 1), ("gym/bob", 1)])]
    own = [frame(i, flags=SELF_NUMBERED) for i in range(3)]
    return [
        (UP, bundle(*frames)),
        (UP, bundle(*[frame(i) for i in range(30)])),
        (UP_JSON, encode_json_message(own, EPOCH, 5)),
        (UP_JSON, encode_json_message(own[:1])),
    ]


def mutate(raw, rng):
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(5):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at] = rng.choice((0, 0x7F, 0x80, 0xC1, 0xFF, rng.randrange(256)))
            case 2:
                del data[at : at + rng.randrange(1, 20)]
            case 3:
                data[at:at] = rng.randbytes(rng.randrange(1, 20))
            case _:
                del data[at:]
    return bytes(data)


def check_consistent(result: Accepted):
    """Every row named by the ack is stored or dead exactly once."""
    if result.ack is not None:
        stored = sum(last - first + 1 for first, last in result.ack.stored)
        refused = sum(r.last - r.first + 1 for r in result.ack.refused)
        assert (stored, refused) == (len(result.records), len(result.dead))
        assert len({d.n for d in result.dead}) == refused
        assert {d.reason for d in result.dead} == {r.reason for r in result.ack.refused}
    for record in result.records:
        assert not isinstance(decode_frame(record.body), Rejected)
        assert record.key.startswith("gym/")


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])])
def test_mutants_break_nothing_and_each_bad_one_is_counted_once(count, tmp_path):
    rng = random.Random(7)
    good = seeds()
    ack = encode_ack(Ack(EPOCH, ((1, 5), (9, 9)), (Refusal(6, 8, "bad_frame"),)))
    first_reason = {}
    settled_kb = 0
    with SqliteLog.open(tmp_path / "log.db", caps=DeadCaps(count=100 * count, raw_bytes=1 << 50)) as log:
        dead = []
        for i in range(count):
            name, raw = good[rng.randrange(len(good))]
            mutant = mutate(raw, rng)
            result = accept(name, mutant, NOW_US)
            check_consistent(result)
            assert result.records or result.dead
            row = decode_frame(mutate(good[0][1][22:90], rng))
            assert isinstance(row, Frame | Rejected)
            assert isinstance(decode_ack(mutate(ack, rng)), Ack | Rejected)
            dead += result.dead
            for d in result.dead:
                first_reason.setdefault((d.epoch, d.n) if d.n is not None else hash((name, d.raw)), str(d.reason))
            if len(dead) > 2000 or i == count - 1:
                log.append([], dead)
                dead = []
            if i == count // 4:
                settled_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        counts = dead_counts(log)
        assert counts.by_reason == Counter(first_reason.values())
        assert counts.dropped == 0
        assert len(counts.by_reason) >= 6
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - settled_kb
    assert grown_kb < 32_000 + count // 8  # the rows this test expects grow; nothing else may


def test_messages_taken_into_one_give_what_each_gives_alone():
    rng = random.Random(11)
    topics = (UP, UP_JSON, "pl/1/gym/box2/up", "pl/1/other/box/up", "pl/1/gym/box/state")
    messages = [
        (rng.choice((name, name, rng.choice(topics))), mutate(raw, rng) if rng.random() < 0.6 else raw) for name, raw in seeds() * 250
    ]
    together, each = Accepted(), []
    for name, raw in messages:
        each.append(accept(name, raw, NOW_US))
        assert accept(name, raw, NOW_US, into=together) is together
    assert together.records == [record for one in each for record in one.records]
    assert together.dead == [letter for one in each for letter in one.dead]
    assert together.unknown_layouts == sum(one.unknown_layouts for one in each)
    assert merged_acks([together]) == merged_acks(each)
    assert len(together.records) > 4_000
    assert len(together.dead) > 500


@pytest.mark.parametrize("where", ["device", "subject", "layout", "boot", "epoch", "clock", "samples", "key", "enum"])
def test_json_text_that_is_no_unicode_is_refused_and_can_be_kept(where, tmp_path):
    lone = "\ud800"
    document = {"device": "ann", "boot": 1, "seq": 7, "samples": [{"hr_bpm": 140}]}
    broken = {"samples": {"samples": [{lone: 1}]}, "key": {lone: 1}, "enum": {"samples": [{"altitude_source": lone}]}}
    result = accept(UP_JSON, json.dumps(document | broken.get(where, {where: lone})).encode(), NOW_US)
    assert (len(result.dead), result.records) == (1, [])
    with SqliteLog.open(tmp_path / "log.db") as log:
        log.append([], result.dead)
        assert dead_letters(log)[0].letter == result.dead[0]


@pytest.mark.parametrize("name", ["pl/1/gym/upload/up", "pl/1/gym/upload/up/json"])
def test_frames_that_claim_to_be_of_an_uploaded_file_are_dead_letters(name):
    result = accept(name, bundle(frame(0)), NOW_US)
    assert (result.records, result.ack) == ([], None)
    assert [(d.n, d.reason, d.detail, d.topic) for d in result.dead] == [(None, Reason.BAD_ID, "the node name upload is reserved", name)]
