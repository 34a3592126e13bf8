"""The frames of one device: a writer a layout, one boot, one numbering. Samples in, closed frames out to whoever keeps them.

    session = Session(node.append, clock, "watch-7", boot)
    frame = session.start(motion_1, clock.monotonic_us())
    frame.put(motion_1.HR_BPM, 141)
    session.poll(clock.monotonic_us())     # closes what is old

A frame closes when it is full, or `frame_ms` after it began. The clock is `kit.clock`'s. Starting a sample
allocates nothing while a frame is open. `lost` counts frames that nobody kept.
"""

from kit.frame import FrameWriter

_ROOM = 160  # bytes of a frame that are not records, at most


class Session:
    """`append(frame)` keeps a frame durably and says whether it did; `boot` are 64 random bits drawn at the start."""

    def __init__(self, append, clock, device, boot, subject="", frame_ms=1000, max_bytes=512):
        self.device = device
        self.boot = boot
        self.seq = 0
        self.lost = 0
        self.frame_ms = frame_ms
        self._append = append
        self._clock = clock
        self._subject = subject
        self._max_bytes = max_bytes
        self._writers = {}
        self._last = {}

    def start(self, layout, at_us):
        """A record of `layout` at `at_us` of the monotonic clock, all absent, to be filled by `put`. One older than the last one counts as
        with it.
        """
        writer = self._writers.get(layout.ID)
        if writer is None:
            writer = self._writers[layout.ID] = self._writer(layout)
        if not writer.count:
            writer.open(at_us)
            self._last[layout.ID] = 0
        tick_ms = max((at_us - writer.t0_us) // 1000, self._last[layout.ID])
        if not writer.start(tick_ms):
            self._close(writer)
            writer.open(at_us)
            tick_ms = 0
            writer.start(0)
        self._last[layout.ID] = tick_ms
        return writer

    def poll(self, now_us):
        """Close what began `frame_ms` ago or longer."""
        for writer in self._writers.values():
            if writer.count and now_us - writer.t0_us >= self.frame_ms * 1000:
                self._close(writer)

    def close(self):
        """Close everything: the device goes, or is somebody else's from now on."""
        for writer in self._writers.values():
            if writer.count:
                self._close(writer)

    def bind(self, subject):
        """Whom it counts for from now on: `tenant/athlete`, or "" for nobody yet."""
        if subject != self._subject:
            self.close()
            self._subject = subject
            for writer in self._writers.values():
                writer.bind(subject)

    def _close(self, writer):
        offset_us = self._clock.utc_offset_us(writer.t0_us)
        if not self._append(writer.close(self.seq, offset_us, 0 if offset_us is None else self._clock.quality)):
            self.lost += 1
        self.seq += 1

    def _writer(self, layout):
        return FrameWriter(layout, self.device, self.boot, self._subject, max_bytes=max(self._max_bytes, _ROOM + layout.SIZE))
