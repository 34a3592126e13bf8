"""The `machine` of a board that is not there: pins with interrupts, I2C with register maps, ADC, UART, for the unix port and CPython.

A program under test imports it as `machine`; what is wired to it is said from outside:

    machine.reset()
    machine.wire_i2c(0, Max30102Model())      # answers at its address on bus 0
    machine.Pin(25).drive(0)                  # an edge from outside: interrupt handlers run at once
    machine.wire_adc(34, 1900)                # millivolts at the pin

Reading and writing buffers allocates nothing, so that a driver's loop can be proved with the heap locked. What real ports refuse is refused with
their numbers: no answer at an address is OSError(19), as on ESP32.
"""

ENODEV = 19
EIO = 5
ETIMEDOUT = 110

_pins = {}
_wires = {}  # bus << 8 | address -> model
_volts = {}  # pin -> millivolts, or a function that gives them
_uarts = {}
PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5
EXT0_WAKE, TIMER_WAKE = 2, 4
ASLEEP = 76  # exit code of a deep sleep
state = {"cause": PWRON_RESET, "woken": 0, "memory": b"", "sleeps_ms": None}  # of the chip, over its starts


def reset():
    """Nothing is wired any more."""
    for held in (_pins, _wires, _volts, _uarts):
        held.clear()


def power_on():
    """A start that ends no sleep: its memory is lost."""
    state.update({"cause": PWRON_RESET, "woken": 0, "memory": b"", "sleeps_ms": None})


def wake(reason):
    """The start that ends a deep sleep: by the pin (`EXT0_WAKE`) or the time (`TIMER_WAKE`). Pins are as they are, without handlers."""
    for pin in _pins.values():
        pin.irq(None)
    state.update({"cause": DEEPSLEEP_RESET, "woken": reason, "sleeps_ms": None})


def reset_cause():
    return state["cause"]


def wake_reason():
    return state["woken"]


def deepsleep(ms=0):
    """The program ends here; what wakes it is said by `wake`."""
    state["sleeps_ms"] = ms
    raise SystemExit(ASLEEP)


class RTC:
    """Its memory, which a deep sleep does not lose."""

    def memory(self, data=None):
        if data is None:
            return state["memory"]
        state["memory"] = bytes(data)


def wire_i2c(bus, model):
    """Put a sensor model on a bus, at its `address`."""
    _wires[bus << 8 | model.address] = model
    return model


def wire_adc(pin, millivolts):
    _volts[pin] = millivolts


class Pin:
    """One object for each number, as all that name the pin share its level."""

    IN, OUT, OPEN_DRAIN = 1, 3, 7
    PULL_UP, PULL_DOWN = 2, 1
    IRQ_RISING, IRQ_FALLING = 1, 2

    def __new__(cls, number, *args, **kwargs):
        if number not in _pins:
            pin = _pins[number] = object.__new__(cls)
            pin.number = number
            pin.mode = pin.pull = None
            pin._level = 0
            pin._handler = None
            pin._trigger = 0
        return _pins[number]

    def __init__(self, number, mode=-1, pull=-1, value=None):
        if mode != -1:
            self.mode = mode
        if pull != -1:
            self.pull = pull
            self._level = 1 if pull == Pin.PULL_UP else self._level
        if value is not None:
            self._level = 1 if value else 0

    def value(self, level=None):
        if level is None:
            return self._level
        self.drive(level)

    def on(self):
        self.drive(1)

    def off(self):
        self.drive(0)

    def irq(self, handler=None, trigger=3, hard=False):
        self._handler = handler
        self._trigger = trigger

    def drive(self, level):
        """The level from outside; an edge that was asked for runs the handler."""
        before = self._level
        self._level = level = 1 if level else 0
        if self._handler is not None and level != before and self._trigger & (Pin.IRQ_RISING if level else Pin.IRQ_FALLING):
            self._handler(self)


class I2C:
    """A bus. Models have `address`, `pointer`, and `read(register)`, `write(register, byte)`, and say whether they answer (`awake`)."""

    def __init__(self, bus=0, scl=None, sda=None, freq=400_000, timeout=50_000):
        self.bus = bus

    def scan(self):
        return sorted([place & 255 for place in _wires if place >> 8 == self.bus and _wires[place].awake])

    def _model(self, address):
        model = _wires.get(self.bus << 8 | address)
        if model is None or not model.answers():
            raise OSError(ENODEV)
        return model

    def readfrom_mem_into(self, address, register, buf, addrsize=8):
        model = self._model(address)
        for i in range(len(buf)):
            buf[i] = model.read(register)
            register = model.after(register)

    def readfrom_mem(self, address, register, count, addrsize=8):
        buf = bytearray(count)
        self.readfrom_mem_into(address, register, buf)
        return bytes(buf)

    def writeto_mem(self, address, register, buf, addrsize=8):
        model = self._model(address)
        for i in range(len(buf)):
            model.write(register, buf[i])
            register = model.after(register)

    def writeto(self, address, buf, stop=True):
        model = self._model(address)
        if len(buf):
            model.pointer = buf[0]
            for i in range(1, len(buf)):
                model.write(model.pointer, buf[i])
                model.pointer = model.after(model.pointer)
        return len(buf)

    def readfrom_into(self, address, buf, stop=True):
        model = self._model(address)
        for i in range(len(buf)):
            buf[i] = model.read(model.pointer)
            model.pointer = model.after(model.pointer)


class ADC:
    """12 bits of 3.3 V, as millivolts of ESP32's calibration and as 16 bits."""

    ATTN_11DB = 3

    def __init__(self, pin, atten=None):
        self._pin = pin.number if isinstance(pin, Pin) else pin

    def _millivolts(self):
        held = _volts.get(self._pin, 0)
        return max(0, min(3300, held() if callable(held) else held))

    def read_uv(self):
        return self._millivolts() * 1000

    def read_u16(self):
        return self._millivolts() * 65535 // 3300


class UART:
    """A line with a receive buffer; what does not fit is lost, as on the chip."""

    def __init__(self, port, baudrate=9600, tx=None, rx=None, rxbuf=256):
        self.baudrate = baudrate
        self._buf = bytearray(rxbuf)
        self._start = self._count = 0
        self.lost = 0
        self.written = bytearray()
        _uarts[port] = self

    def init(self, baudrate=9600, tx=None, rx=None, rxbuf=256):
        self.baudrate = baudrate

    def arrive(self, data):
        """Bytes from outside."""
        size = len(self._buf)
        for byte in data:
            if self._count == size:
                self.lost += 1
            else:
                self._buf[(self._start + self._count) % size] = byte
                self._count += 1

    def any(self):
        return self._count

    def readinto(self, buf, count=-1):
        """As on ESP32: None when nothing came in time."""
        wanted = len(buf) if count < 0 else count
        n = min(wanted, self._count)
        size = len(self._buf)
        for i in range(n):
            buf[i] = self._buf[self._start]
            self._start = (self._start + 1) % size
        self._count -= n
        return n or None

    def write(self, data):
        self.written.extend(data)
        return len(data)


def uart(port):
    """The UART that a program opened on a port."""
    return _uarts[port]
