"""The scanning of this port: machine code where it has a native emitter, bytecode elsewhere."""

try:
    from drivers.scan_viper import gather, number, place, split, take
except (ImportError, SyntaxError, ValueError):  # CPython; a port without viper; an .mpy of another machine
    from drivers.scan_plain import gather, number, place, split, take
