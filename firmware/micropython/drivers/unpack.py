"""The unpacking of this port: machine code where it has a native emitter, bytecode elsewhere."""

try:
    from drivers.unpack_viper import axes, lights
except (ImportError, SyntaxError, ValueError):  # CPython; a port without viper; an .mpy of another machine
    from drivers.unpack_plain import axes, lights
