"""Runs on MicroPython and on CPython, beside a copy of `engine.py`: decodes packets with packed tables and says each result to the last bit.

profile_child.py decode FILE     lines `P NAME PACK` and `D HEX`; a line for each packet
profile_child.py memory FILE     bytes of RAM that a pack of tables takes, and what the plans of its packets add
"""

import binascii
import struct
import sys

import engine


def said(value):
    """A value in a form that shows every bit."""
    if isinstance(value, float):
        return "f" + binascii.hexlify(struct.pack("<d", value)).decode()
    if isinstance(value, list):
        return "[" + " ".join([said(one) for one in value]) + "]"
    if isinstance(value, str):
        return "s" + binascii.hexlify(value.encode()).decode()
    if isinstance(value, bytes):
        return "b" + binascii.hexlify(value).decode()
    return str(value)


def decode(path):
    """Each packet's fields in the order of their names, and what was wrong with it."""
    decoder = None
    with open(path) as lines:
        for line in lines:
            words = line.split()
            if words[0] == "P":
                decoder = engine.Pack(binascii.unhexlify(words[2])).decoder(words[1])
                continue
            fields, trouble = decoder.decode(binascii.unhexlify(words[1]) if len(words) > 1 else b"")
            print(trouble, " ".join([name + "=" + said(fields[name]) for name in sorted(fields)]))


def memory(path):
    """Heap before and after the tables, and after their packets."""
    import gc

    with open(path) as file:
        lines = [line.split() for line in file]
    gc.collect()
    before = gc.mem_alloc()
    pack = engine.Pack(binascii.unhexlify(lines[0][2]))
    decoders = [pack.decoder(name) for name in pack.names_of_profiles()]
    gc.collect()
    tables = gc.mem_alloc() - before
    for words in lines[1:]:
        decoders[int(words[1])].decode(binascii.unhexlify(words[2]))
    gc.collect()
    print(tables, gc.mem_alloc() - before - tables)


def tuples(path):
    """Heap before and after the tables as a literal."""
    import gc

    with open(path) as file:
        text = file.read()
    gc.collect()
    before = gc.mem_alloc()
    tables = eval(text)
    gc.collect()
    print(gc.mem_alloc() - before, len(tables))


{"decode": decode, "memory": memory, "tuples": tuples}[sys.argv[1]](sys.argv[2])
