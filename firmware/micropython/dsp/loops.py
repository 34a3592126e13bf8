"""The inner loops of this port: machine code where it has a native emitter, bytecode elsewhere."""

try:
    from dsp.loops_viper import correlation, crest, highest, isqrt, reach, total
except (ImportError, SyntaxError, ValueError):  # CPython; a port without viper; an .mpy of another machine
    from dsp.loops_plain import correlation, crest, highest, isqrt, reach, total
