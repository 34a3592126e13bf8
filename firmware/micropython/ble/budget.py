"""Whether radio, TLS and heap fit, asked before anything is started: what does not fit is said with figures, instead of failing in the
field.

On an ESP32 MicroPython's heap and that of the radio are different ones; TLS needs a block in one piece. Order: TLS first, then Bluetooth.
"""

import gc

TLS_BLOCK_BYTES = 17_000  # the record buffer of mbedTLS, in one piece


def check(memory, wants_heap_bytes, tls, ble, free_heap_bytes=None, free_radio_bytes=None, largest_block_bytes=None):
    """Sentences about what does not fit; empty if all does. `memory` is the board's table, used for what the port cannot tell."""
    wrong = []
    heap = free_heap_bytes if free_heap_bytes is not None else memory["heap_bytes"]
    if heap < wants_heap_bytes:
        wrong.append("heap: %d bytes are wanted, %d are free: take a board with PSRAM, or fewer links" % (wants_heap_bytes, heap))
    radio = free_radio_bytes if free_radio_bytes is not None else memory["radio_bytes"]
    needs = (memory["tls_bytes"] if tls else 0) + (memory["ble_bytes"] if ble else 0)
    if radio and radio < needs:
        wrong.append("radio memory: TLS and Bluetooth want %d bytes, %d are free: switch one of them off" % (needs, radio))
    block = largest_block_bytes if largest_block_bytes is not None else memory["largest_block_bytes"]
    if tls and block and block < TLS_BLOCK_BYTES:
        wrong.append(
            "radio memory: TLS wants %d bytes in one piece, the largest is %d: start it before Bluetooth" % (TLS_BLOCK_BYTES, block)
        )
    return wrong


def free_heap():
    """Bytes MicroPython's heap has left after a collection; None where the port does not tell (CPython)."""
    gc.collect()
    return gc.mem_free() if hasattr(gc, "mem_free") else None


def free_radio(esp32):
    """(free, largest block) of the heap outside MicroPython's; (None, None) where the module `esp32` does not tell."""
    info = getattr(esp32, "idf_heap_info", None)
    if info is None:
        return None, None
    heaps = info(esp32.HEAP_DATA)
    return sum([heap[1] for heap in heaps]), max([heap[2] for heap in heaps])
