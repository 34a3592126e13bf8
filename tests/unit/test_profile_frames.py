"""Every sensor's golden frames, all the way: packet -> samples -> session -> frame on the wire -> track, and what the live stage takes of it."""

from __future__ import annotations

import pytest

from broker.frames import Frame, decode_frame, encode_frame
from broker.layouts import all_layouts, layout_named
from device_profiles.catalogue import catalogue
from device_profiles.golden import play
from device_profiles.profile import Profile
from gateway.clock import EARLIEST_UTC_US, Instant
from gateway.sessions import DeviceSession, record_body
from processors.samples import BEATS, MACHINE, MOTION, TakenFrame, samples_of
from processors.tracks import decode_track, encode_track, tracks_of

STORING = [profile for profile in catalogue().all() if profile.samples]
NOW = Instant(10**12, EARLIEST_UTC_US + 10**12)


def frames_of(profile: Profile) -> list[Frame]:
    """The frames that a box makes of all golden packets of a profile, a second apart."""
    session, made = DeviceSession("sensor", boot=7), []
    for number, golden in enumerate(profile.golden):
        for sample in play(profile, golden)[1]:
            layout = layout_named(sample.layout)
            made += session.add(layout, number * 10**7 + 10**7 - sample.age_us, record_body(layout, sample.values), NOW)
    return made + session.close(NOW)


@pytest.mark.parametrize("profile", STORING, ids=lambda profile: profile.name)
def test_what_a_sensor_said_reads_back_from_the_wire_and_from_a_track(profile: Profile) -> None:
    said = [sample for golden in profile.golden for sample in play(profile, golden)[1]]
    frames = frames_of(profile)
    read = [decode_frame(encode_frame(frame)) for frame in frames]
    assert read == frames
    rows = [row for frame in frames for row in all_layouts()[frame.layout].unpack(frame.records)]
    assert len(rows) == len(said)
    for row, sample in zip(rows, said, strict=True):
        layout = layout_named(sample.layout)
        (wanted,) = layout.unpack(layout.pack({"tick_ms": row["tick_ms"], **sample.values}))
        assert row == wanted
    tracks = tracks_of([TakenFrame("gym/box/sensor", "box", frame, encode_frame(frame), 0) for frame in frames])
    assert sum(len(track.records) for track in tracks.values()) == len(said)
    assert all(decode_track(encode_track(track)).fingerprint() == track.fingerprint() for track in tracks.values())


@pytest.mark.parametrize("profile", STORING, ids=lambda profile: profile.name)
def test_the_live_stage_takes_motion_beats_and_machines_and_nothing_of_bodies(profile: Profile) -> None:
    frames = frames_of(profile)
    taken = samples_of([TakenFrame("gym/box/sensor", "box", frame, encode_frame(frame), 0) for frame in frames])
    live = sum(len(frame.records) // all_layouts()[frame.layout].size for frame in frames if frame.layout in {MOTION, BEATS, MACHINE})
    assert len(taken.t_us) == live
