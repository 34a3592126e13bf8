"""The period of a signal from its own correlation, to a sixteenth of a sample, with how well it repeats. Samples are unsigned 16 bits."""

from array import array

from dsp.loops import correlation, crest, highest, reach, total

_SPAN_BITS = 9  # samples are scaled to below 2**9: products of a thousand stay below 2**30


class Period:
    """The last `length` samples, and on demand their period between `shortest` and `longest` samples.

    `shorter_pct`: how much of the best likeness a shorter period needs to be the true one, because multiples of a period repeat as well. `stride`:
    samples between two products that are taken, more than 1 for a signal without faster parts.
    After `find()`: `sixteenths` (period in 1/16 sample, 0 when there is none), `quality` (0-1000: how alike one period and the next are),
    `swing` (how far samples go from their mean). After `find_crests()` too: `crests`, `span` (samples from the first to the last) and `uneven`
    (samples between the longest and the shortest interval).
    """

    def __init__(self, length, shortest, longest, shorter_pct=85, stride=1):
        if not 2 <= shortest < longest or 2 * longest > length or length > 1000:
            raise ValueError("a window of %d samples holds no period of %d to %d twice" % (length, shortest, longest))
        self._length = length
        self._shortest = shortest
        self._longest = longest
        self._shorter_pct = shorter_pct
        self._stride = stride
        self._samples = array("H", bytes(4 * length))  # each is written twice, so that the window is one piece wherever it starts
        self._alike = array("h", bytes(2 * (longest + 3)))
        self.clear()

    def clear(self):
        self._at = 0
        self.filled = 0
        self.sixteenths = self.quality = self.swing = 0
        self.crests = self.span = self.uneven = 0

    def add(self, sample):
        """Keep 0 <= sample < 65536 in place of the oldest one."""
        at = self._at
        self._samples[at] = sample
        self._samples[at + self._length] = sample
        self._at = at + 1 if at + 1 < self._length else 0
        if self.filled < self._length:
            self.filled += 1

    def find(self):
        """Look for the period. True when there is one; the window must be full."""
        self.sixteenths = self.quality = self.swing = 0
        if self.filled < self._length:
            return False
        samples = self._samples
        start = self._at
        length = self._length
        centre = total(samples, start, length) // length
        self.swing = reach(samples, start, length, centre)
        shift = 0
        while self.swing >> shift >= 1 << _SPAN_BITS:
            shift += 1
        longest = self._longest
        alike = self._alike
        best = 0
        lag = self._shortest - 1
        n = length - lag
        stride = self._stride
        power = correlation(samples, start, n, 0, centre, shift, 1) + correlation(samples, start + lag, n, 0, centre, shift, 1)
        while lag <= longest + 1:
            whole = power // (2000 * stride)
            alike[lag] = correlation(samples, start, n, lag, centre, shift, stride) // whole if whole > 0 else 0
            n -= 1  # the next lag compares one sample less at either end
            head = (samples[start + lag] - centre) >> shift
            tail = (samples[start + n] - centre) >> shift
            power -= head * head + tail * tail
            lag += 1
        for lag in range(self._shortest, longest + 1):
            if alike[lag] > best and self._peak(lag):
                best = alike[lag]
        enough = best * self._shorter_pct // 100
        lag = self._shortest
        while lag <= longest and not (alike[lag] >= enough and self._peak(lag)):
            lag += 1
        if best <= 0 or lag > longest:
            return False
        self.quality = min(1000, alike[lag])
        self.sixteenths = self._between(lag)
        return True

    def find_crests(self):
        """Look for the highest sample of each period, after `find()`: one that none exceeds for 5/8 of a period, and well above the mean."""
        samples = self._samples
        start = at = self._at
        end = start + self._length
        apart = self.sixteenths * 5 >> 7
        centre = total(samples, start, self._length) // self._length
        least = centre + ((samples[highest(samples, start, end)] - centre) >> 2)
        first = last = -1
        longest = shortest = 0
        self.crests = 0
        while at < end:
            top = crest(samples, at, end, apart)
            if top < 0:  # the last one may be too near the end for that: 3/8 of it must do, and 3/4 of a period from the one before
                top = highest(samples, at, end)
                if 8 * (end - top) < 3 * apart or 64 * (top - last) < 3 * self.sixteenths:
                    break
            if top > start and samples[top] >= least:
                if first < 0:
                    first = top
                else:
                    longest = max(longest, top - last)
                    shortest = min(shortest, top - last) if self.crests > 1 else top - last
                last = top
                self.crests += 1
            at = top + apart
        self.span = last - first
        self.uneven = longest - shortest

    def _peak(self, lag):
        alike = self._alike
        return alike[lag] > 0 and alike[lag] >= alike[lag - 1] and alike[lag] >= alike[lag + 1]

    def _between(self, lag):
        """Where the parabola through three values is highest."""
        before, top, after = self._alike[lag - 1], self._alike[lag], self._alike[lag + 1]
        bend = before - 2 * top + after
        return 16 * lag + ((8 * (before - after)) // bend if bend else 0)
