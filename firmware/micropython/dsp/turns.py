"""The tops of one axis: a top counts when the signal fell from it by more than a threshold that follows the swings."""


class Turns:
    """After `add()` was True: `interval` is samples since the top before (0 for the first), `swing` how far it rose to this one."""

    def __init__(self, least):
        self._least = least
        self.clear()

    def clear(self):
        self._started = self._falling = False
        self._high = self._low = 0
        self._age = self._before = 0  # samples since the high, and from the top before to it
        self.interval = self.swing = 0

    def add(self, value):
        """True when this sample shows that a top was passed."""
        if not self._started:
            self._started = True
            self._high = self._low = value
        back = max(self._least, self.swing >> 1)
        self._age += 1
        self._before += self._before > 0
        if self._falling:
            if value < self._low:
                self._low = value
            elif value > self._low + back:
                self._falling = False
                self._high = value
                self._age = 0
            return False
        if value >= self._high:
            self._high = value
            self._age = 0
            return False
        if value >= self._high - back:
            return False
        self._falling = True
        rose = self._high - self._low
        self.swing = min(rose, 2 * self.swing) if self.swing else rose
        self.interval = self._before - 1 - self._age if self._before else 0
        self._before = self._age + 1
        self._low = value
        return True
