"""An offer of an update, from its manifest to the image on trial. Loaded for as long as it takes: with what it needs it is a fifth of a small
heap (`kit.updater`).
"""

import asyncio

from kit import manifest as manifests
from kit.fetch import fetch, place_of
from kit.update import Download

TRIES = 5


async def take(url, slots, targets, keys, hardware, utc_us, running, log):
    """Fetch the offer and, if it is for this device, the image. (why not, whether it is on trial from the next start on).

    HttpError, OSError or EOFError when the server does not give it, ValueError when `url` is none. What came of an image stays, and the next
    time goes on from there.
    """
    host, port, path = place_of(url)
    raw = bytearray()
    await fetch(
        host, port, "%s/%s.manifest" % (path, hardware), lambda part: raw.extend(part[: manifests.SIZE + 1 - len(raw)])
    )
    room, highest, failed = {}, running, 0
    kind = raw[4] if len(raw) > 4 else 0
    record = slots.get(kind)
    if record is not None:
        target = targets[kind](record.spare())
        room[kind] = target.ioctl(4, 0) * target.ioctl(5, 0)
        highest, failed = max(highest, record.version), record.failed_version
    now_us = utc_us()
    now_s = None if now_us is None else now_us // 1_000_000
    manifest, why = manifests.judge(raw, keys, hardware.encode(), highest, failed, room, now_s)
    if manifest is None:
        return why, False
    log.info("version %d: %d bytes" % (manifest.version, manifest.size))
    download = Download(record, target, manifest)
    path = "%s/%s-%d.image" % (path, hardware, manifest.version)
    for attempt in range(TRIES):
        try:
            await fetch(host, port, path, download.take, download.offset)
        except (OSError, EOFError):
            if attempt + 1 == TRIES:
                raise
            await asyncio.sleep(1 << attempt)
        if download.offset >= manifest.size:
            break
    if not download.finish():
        return "the image is not the one that was signed", False
    return "", True
