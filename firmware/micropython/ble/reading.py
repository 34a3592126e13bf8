"""Packets of a sensor -> records of a layout, by tables only: the engine's for the fields, `sensor_rules` for what they come to.

The same outcome as `device_profiles.reader` on the box, which the tests hold it to: records that are split are joined, rates come from
counters that roll over, what is implausible is absent. `put(layout, age_ms, values)` is called for each record, oldest first; `values` are
(code, raw integer).
"""


class Reading:
    """One characteristic of one device. `rule` is what `json.loads` makes of one of `sensor_rules.RULES`. `settings` may hold `wheel_m`. `bad` counts what was withheld: short packets and implausible
    values.
    """

    def __init__(self, decoder, rule, settings=None):
        self.decoder = decoder
        self.rule = rule
        self.bad = 0
        self._settings = settings or {}
        self._rates = {}  # name -> [count, time, event_ms, value]
        self._held = {}
        self._held_ms = 0

    def feed(self, payload, now_ms, put):
        """A packet that came at `now_ms` (an integer that only grows)."""
        fields, trouble = self.decoder.decode(payload)
        if trouble:
            self.bad += 1
        more = self.rule["more"]
        if more is not None:
            mask, until, period_ms = more
            if self._held:
                overdue = period_ms and now_ms - self._held_ms > period_ms // 2
                if overdue or any([name in self._held for name in fields if name not in self.rule["flags"]]):
                    held, self._held = self._held, {}
                    self._record(held, now_ms, now_ms - self._held_ms, put)
            if self.decoder.page(payload) & mask != until:
                self._held.update(fields)
                self._held_ms = now_ms
                return
            if self._held:
                held, self._held = self._held, {}
                held.update(fields)
                fields = held
        self._record(fields, now_ms, 0, put)

    def _record(self, fields, now_ms, age_ms, put):
        for rate in self.rule["rates"]:
            value = self._rate(rate, fields, now_ms - age_ms)
            if value is not None:
                fields[rate[0]] = value
        for name, field, per in self.rule["inverses"]:
            if fields.get(field):
                fields[name] = per / fields[field]
        spans = None
        for name, low, high in self.rule["plausible"]:
            value = fields.get(name)
            if isinstance(value, list):
                spans = value
                fields[name] = [one if one is not None and low <= one <= high else None for one in value]
            elif value is not None and not low <= value <= high:
                self.bad += 1
                del fields[name]
        for layout, constants, sources, each in self.rule["samples"]:
            values = []
            for code, choices in sources:
                for field, mul, div, add, offset, scale in choices:
                    value = fields.get(field)
                    if value is not None:
                        raw = round((value * mul / div + add - offset) / scale)
                        if code & 7 < 3 or 0 <= raw < 1 << 32:  # what is shorter is checked where it is stored
                            values.append((code, raw))
                        break
            if each is None or not self._each(each, fields, spans, layout, constants + values, age_ms, put):
                if values:
                    put(layout, age_ms, constants + values)

    def _each(self, each, fields, spans, layout, values, age_ms, put):
        """A record for each value of a list, as old as those after it are long; False if there is none."""
        field, code, mul, div, scale = each
        good = fields.get(field)
        if not good:
            return False
        ages = []
        age = 0
        for i in range(len(good) - 1, -1, -1):
            ages.append(age)
            age += round((spans[i] if spans else good[i]) * 1000)
        made = False
        for i, one in enumerate(good):
            if one is not None:
                put(layout, age_ms + ages[len(good) - 1 - i], values + [(code, round(one * mul / div / scale))])
                made = True
        return made

    def _rate(self, rate, fields, now_ms):
        """Events over event time; the last value holds for a while without a new event, then it is 0."""
        name, count_field, time_field, factor, setting, wrap, span, hold_ms, max_gap_ms = rate
        count, time = fields.get(count_field), fields.get(time_field)
        if count is None or time is None:
            return None
        last = self._rates.get(name)
        if last is None:
            self._rates[name] = [count, time, now_ms, None]
            return None
        gap_ms = now_ms - last[2]
        if time == last[1]:
            if gap_ms >= hold_ms:
                last[3] = 0
            return last[3]
        value = None
        events = (count - last[0]) % wrap
        if gap_ms <= max_gap_ms and events * 2 < wrap:
            value = events / ((time - last[1]) % span) * factor * self._settings.get(setting[0], setting[1])
        self._rates[name] = [count, time, now_ms, value]
        return value
