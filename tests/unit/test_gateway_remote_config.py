"""Remote configuration: refused whole, older ones ignored, trial and revert, and what a kill leaves behind."""

from __future__ import annotations

import json

import pytest

from broker.nodeconfig import NodeConfig
from gateway.remote_config import MAX_BYTES, RemoteConfig, judge

DEFAULT = NodeConfig(version=0)
BOX2 = {"host": "other", "port": 1883}


class Box:
    """Stands where the process does: notes what was applied and answers whether the uplink came up."""

    def __init__(self, *, healthy: bool = True) -> None:
        self.applied: list[tuple[int, frozenset[str]]] = []
        self.asked: list[float] = []
        self.is_healthy = healthy

    async def apply(self, config: NodeConfig, changed: frozenset[str]) -> None:
        self.applied.append((config.version, changed))

    async def healthy(self, timeout_s: float) -> bool:
        self.asked.append(timeout_s)
        return self.is_healthy

    def config(self, folder) -> RemoteConfig:
        return RemoteConfig(folder, DEFAULT, apply=self.apply, healthy=self.healthy)


def document(version: int, **fields) -> bytes:
    return json.dumps({"version": version, **fields}).encode()


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"{", "document"),
        (document(2, colour="red"), "colour"),
        (document(-1), "version"),
        (document(2, frame_ms=1), "frame_ms"),
        (document(2, uplink={"host": "x"}), "uplink.port"),
        (document(2, bindings=[{"device": "A B", "athlete": "x"}]), "bindings.0.device"),
        (b" " * (MAX_BYTES + 1), "at most"),
    ],
)
async def test_wrong_document_is_refused_whole_and_named(tmp_path, raw, field):
    box = Box()
    remote = box.config(tmp_path)
    await remote.consider(raw)
    assert field in remote.error
    assert remote.current == DEFAULT
    assert box.applied == []
    assert list(tmp_path.iterdir()) == []


def test_older_and_equal_versions_are_ignored_silently():
    for version in (4, 5):
        verdict = judge(document(version), NodeConfig(version=5), -1)
        assert (verdict.config, verdict.error) == (None, "")
    assert judge(document(6), NodeConfig(version=5), -1).config == NodeConfig(version=6)


async def test_taken_document_survives_a_restart_and_clears_the_error(tmp_path):
    box = Box()
    remote = box.config(tmp_path)
    await remote.consider(b"{")
    await remote.consider(document(3, frame_ms=500))
    assert (remote.error, remote.current.frame_ms) == ("", 500)
    assert box.applied == [(3, frozenset({"frame_ms"}))]
    assert box.asked == []  # nothing that could break the uplink: no trial
    again = box.config(tmp_path)
    assert (again.current, again.error) == (remote.current, "")
    assert json.loads((tmp_path / "cfg.prev.json").read_bytes())["version"] == 0


async def test_new_uplink_that_comes_up_stays(tmp_path):
    box = Box()
    remote = box.config(tmp_path)
    await remote.consider(document(3, uplink=BOX2))
    assert box.asked == [60.0]
    assert remote.current.version == 3
    assert box.config(tmp_path).current.version == 3


async def test_new_uplink_that_stays_down_is_reverted_reported_and_not_tried_again(tmp_path):
    box = Box()
    remote = box.config(tmp_path)
    await remote.consider(document(2, frame_ms=500))
    box.is_healthy = False
    await remote.consider(document(3, frame_ms=600, uplink=BOX2))
    assert remote.current == NodeConfig(version=2, frame_ms=500)
    assert "version 3 reverted" in remote.error
    assert [version for version, _ in box.applied] == [2, 3, 2]
    await remote.consider(document(3, frame_ms=600, uplink=BOX2))  # retained: it comes with every connection
    assert len(box.asked) == 1
    again = box.config(tmp_path)
    assert again.current.version == 2
    assert "version 3 reverted" in again.error
    box.is_healthy = True
    await again.consider(document(4, frame_ms=700))
    assert (again.current.version, again.error) == (4, "")
    assert box.config(tmp_path).error == ""


@pytest.mark.parametrize("first", [None, 2])
async def test_kill_during_the_trial_reverts_at_the_next_start(tmp_path, first):
    box = Box()
    remote = box.config(tmp_path)
    if first:
        await remote.consider(document(first, frame_ms=500))

    async def killed(timeout_s: float) -> bool:
        raise KeyboardInterrupt

    remote._healthy = killed
    with pytest.raises(KeyboardInterrupt):
        await remote.consider(document(3, uplink=BOX2))
    again = box.config(tmp_path)
    assert again.current == (NodeConfig(version=2, frame_ms=500) if first else DEFAULT)
    assert "version 3 reverted" in again.error
    await again.consider(document(3, uplink=BOX2))
    assert again.current.version == (first or 0)
    assert box.config(tmp_path).current.version == (first or 0)


@pytest.mark.parametrize("left", ["cfg.json", "cfg.prev.json", "cfg.trial.json"])
async def test_any_prefix_of_the_writes_leaves_a_document_that_works(tmp_path, left):
    """The files are replaced one by one in a fixed order: a kill after each leaves the old or the reverted configuration."""
    box = Box()
    remote = box.config(tmp_path)
    await remote.consider(document(2, frame_ms=500))
    real = remote._files._write

    def until(path, text):
        real(path, text)
        if path.name == left:
            raise KeyboardInterrupt

    remote._files._write = until
    with pytest.raises(KeyboardInterrupt):
        await remote.consider(document(3, frame_ms=900, uplink=BOX2))
    assert box.config(tmp_path).current == NodeConfig(version=2, frame_ms=500)


async def test_damaged_file_falls_back_to_the_previous_one_and_says_so(tmp_path):
    box = Box()
    remote = box.config(tmp_path)
    await remote.consider(document(2, frame_ms=500))
    await remote.consider(document(3, frame_ms=600))
    (tmp_path / "cfg.json").write_bytes(b"\x00" * 40)
    again = box.config(tmp_path)
    assert again.current.version == 2
    assert "damaged" in again.error


async def test_disk_that_refuses_writes_keeps_the_present_configuration(tmp_path):
    box = Box()
    remote = box.config(tmp_path)
    (tmp_path / "cfg.prev.tmp").mkdir()  # the temporary file cannot be opened
    await remote.consider(document(2, frame_ms=500))
    assert remote.current == DEFAULT
    assert "cannot be written" in remote.error
