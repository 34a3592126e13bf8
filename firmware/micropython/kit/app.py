"""The supervisor: every task is started again when it ends, and the watchdog is fed only while all that must report do.

    app = Supervisor(log, feed=wdt.feed, safe=boots.safe)
    app.add("node", node.run, beat_ms=30000, safe=True)    # runs in safe mode too
    app.add("gnss", gnss.run)                              # without a beat: nothing is reset because of it
    await app.run()

A task reports with `app.beat(name)`. One that is silent for `beat_ms` is cancelled and started again; if it stays silent for another
`beat_ms`, or the loop itself stands, the watchdog resets the chip. Waits between starts double from a second to a minute and begin again
after a minute of running. A task that fails says so (a sensor that is not there), and resets nothing, while the others go on: `failing` has
its words until it reports, or has run for a minute. Only where memory has run out, silence counts on: a reset is the cure then.
"""

import asyncio

from kit.ticks import sleep_ms, ticks_add, ticks_diff, ticks_ms

_LOOK_MS = 500
_FIRST_WAIT_MS, _LONGEST_WAIT_MS = 1000, 60000
_FAILED_CHARS = 120
_LONG_AGO_MS = 86_400_000  # what is longer ago counts as a day: differences of ticks are right for six days


class _Task:
    def __init__(self, name, start, beat_ms):
        self.name, self.start, self.beat_ms = name, start, beat_ms
        self.running = None
        self.restarts = 0
        self.wait_ms = _FIRST_WAIT_MS
        self.started_ms = self.beaten_ms = self.again_ms = None
        self.cancelled = False
        self.failed = ""


class Supervisor:
    """`feed()` feeds the watchdog; `on_fault(name, error)` hears of every task that failed. `restarts` by name."""

    def __init__(self, log, feed=None, safe=False, on_fault=None):
        self.log = log
        self.safe = safe
        self.fed = 0
        self._feed, self._on_fault = feed, on_fault
        self._tasks = []
        self._stopping = False

    @property
    def restarts(self):
        return {task.name: task.restarts for task in self._tasks}

    @property
    def failing(self):
        """What is wrong with tasks that fail, by name."""
        return {task.name: task.failed for task in self._tasks if task.failed}

    def add(self, name, start, beat_ms=None, safe=False):
        """Have `start()` (an async function) run for ever. In safe mode only tasks that are `safe` are."""
        if beat_ms is not None and beat_ms < 2 * _LOOK_MS:
            raise ValueError("%s: beat_ms %d: give %d at least" % (name, beat_ms, 2 * _LOOK_MS))
        if safe or not self.safe:
            self._tasks.append(_Task(name, start, beat_ms))

    def beat(self, name):
        """The task of that name lives."""
        for task in self._tasks:
            if task.name == name:
                task.beaten_ms = ticks_ms()
                task.failed = ""

    def stop(self):
        """End `run`: its tasks are cancelled."""
        self._stopping = True

    async def run(self):
        """Supervise until `stop`."""
        try:
            while not self._stopping:
                now = ticks_ms()
                for task in self._tasks:
                    self._look(task, now)
                if self._feed is not None and all([self._reports(task, now) for task in self._tasks]):
                    self._feed()
                    self.fed += 1
                await sleep_ms(_LOOK_MS)
        finally:
            for task in self._tasks:
                if task.running is not None:
                    task.running.cancel()
            for _ in range(200):
                if all([task.running is None or task.running.done() for task in self._tasks]):
                    break
                await sleep_ms(10)

    def _look(self, task, now):
        task.started_ms = _at_most_a_day_ago(task.started_ms, now)
        task.beaten_ms = _at_most_a_day_ago(task.beaten_ms, now)
        if task.running is None:
            if task.again_ms is None or ticks_diff(now, task.again_ms) >= 0:
                self._start(task, now)
        elif task.running.done():
            task.running = None
            if ticks_diff(now, task.started_ms) >= _LONGEST_WAIT_MS:
                task.wait_ms = _FIRST_WAIT_MS
            task.again_ms = ticks_add(now, task.wait_ms)
            task.wait_ms = min(2 * task.wait_ms, _LONGEST_WAIT_MS)
        elif task.failed and ticks_diff(now, task.started_ms) >= _LONGEST_WAIT_MS:
            task.failed = ""
        elif self._silent_ms(task, now) > 0 and not task.cancelled:
            task.cancelled = True
            self.log.warning("%s: silent for %d ms, started again" % (task.name, task.beat_ms))
            task.running.cancel()

    def _start(self, task, now):
        if task.started_ms is not None:
            task.restarts += 1
        if task.beaten_ms is None:
            task.beaten_ms = now
        task.started_ms = now
        task.cancelled = False
        task.running = asyncio.create_task(self._guard(task))

    async def _guard(self, task):
        try:
            await task.start()
            self.log.info("%s: ended" % task.name)
        except Exception as error:
            task.failed = ("%s: %s" % (type(error).__name__, error))[:_FAILED_CHARS]
            if not isinstance(error, MemoryError):
                task.beaten_ms = None  # it did not hang: its time begins anew with its next start
            self.log.fault(task.name, error)
            if self._on_fault is not None:
                self._on_fault(task.name, error)

    def _silent_ms(self, task, now):
        """For how long a task is overdue; 0 when it is not, or need not report."""
        if task.beat_ms is None:
            return 0
        return max(0, min(ticks_diff(now, task.started_ms), ticks_diff(now, task.beaten_ms)) - task.beat_ms)

    def _reports(self, task, now):
        """Whether the watchdog may be fed as far as this task goes: it has reported within twice its time, whatever happened since."""
        return task.beat_ms is None or task.beaten_ms is None or ticks_diff(now, task.beaten_ms) <= 2 * task.beat_ms


def _at_most_a_day_ago(ticks, now):
    return ticks_add(now, -_LONG_AGO_MS) if ticks is not None and ticks_diff(now, ticks) > _LONG_AGO_MS else ticks
