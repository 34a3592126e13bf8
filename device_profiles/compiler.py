"""Profile documents -> compiled profiles. What needs the whole profile is checked here, with file, line and field of what is wrong.

Refused: a name that is used and does not exist, a field after one that reaches to the end, a scale that a double does not hold exactly, a
quirk whose patch hits nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from device_profiles.command_rows import compile_command, compile_reply
from device_profiles.engine import NO_KEY, PAGE_KEY, Decoder
from device_profiles.hooks import HOOKS
from device_profiles.marks import Marked
from device_profiles.profile import Derive, Each, FieldInfo, Golden, Profile, SampleRule, Source, Table
from device_profiles.refusals import Place, refusal
from device_profiles.rows import Names, compile_rows, shift
from device_profiles.schema import DeriveDoc, FieldDoc, ProfileDoc, SamplesDoc


@dataclass(frozen=True, slots=True)
class Written:
    """A profile document and where it stands."""

    doc: ProfileDoc
    marked: Marked
    place: Place


def compile_profile(written: Written, others: Mapping[str, Written], common: Mapping[int, Sequence[FieldDoc]]) -> Profile:
    """Compile one profile. `others` are those that `use` may name, `common` the pages that `common` may name."""
    return _Compiling(written, others, common).profile()


class _Compiling:
    """The work on one profile."""

    def __init__(self, written: Written, others: Mapping[str, Written], common: Mapping[int, Sequence[FieldDoc]]) -> None:
        self.written = written
        self.doc = self._used(written, others)
        self.common = common
        self.names = Names()

    def fail(self, place: Place, detail: str, cure: str) -> Exception:
        return refusal(self.written.marked, (*self.written.place, *place), detail, cure)

    def _used(self, written: Written, others: Mapping[str, Written]) -> ProfileDoc:
        doc = written.doc
        if doc.use is None:
            return doc
        base = others.get(doc.use.profile)
        if base is None or base.doc.use is not None:
            raise self.fail(("use", "profile"), f"there is no profile {doc.use.profile!r} to use", "name one that stands on its own")
        moved = shift(base.doc, doc.use.offset)
        given = {name: getattr(doc, name) for name in doc.model_fields_set} | {"use": None, "ant": doc.ant, "ble": doc.ble}
        return moved.model_copy(update={"golden": [], "about": "", **given})

    def profile(self) -> Profile:
        """Everything, in the order in which names come to exist."""
        doc = self.doc
        table = self._table()
        derives = tuple(self._derive(i, derive) for i, derive in enumerate(doc.derive))
        samples = tuple(self._samples(i, rule) for i, rule in enumerate(doc.samples))
        for i, name in enumerate(doc.keep):
            self._known(name, ("keep", i))
        if doc.hook is not None and doc.hook not in HOOKS:
            raise self.fail(("hook",), f"there is no hook {doc.hook!r}", f"use one of {', '.join(sorted(HOOKS))}, or add it to hooks.py")
        period_ms = doc.ble.period_ms if doc.ble else round(doc.ant.period * 1000 / 32768) if doc.ant else 0
        return Profile(
            name=doc.name,
            source="ble" if doc.ble else "ant",
            key=doc.ble.characteristic if doc.ble else f"ant:{doc.ant.type if doc.ant else 0}",
            service=(doc.ble.service or "") if doc.ble else "",
            mode=doc.ble.mode if doc.ble else "notify",
            layout=samples[0].layout if samples else "",
            period_ms=period_ms,
            ant_period=doc.ant.period if doc.ant else 0,
            ant_rf=doc.ant.rf if doc.ant else 0,
            about=doc.about,
            file=self.written.marked.file,
            table=table,
            decoder=Decoder(table.key, table.page_at, table.page_mask, table.rows),
            fields=self.names.infos,
            page_fields=frozenset(name for name in self.names.pages if -1 not in self.names.pages[name]),
            toggle=doc.page.toggle if doc.page else 0,
            more_mask=1 << doc.more_data.bit if doc.more_data else 0,
            more_until=doc.more_data.merge_until << doc.more_data.bit if doc.more_data else 0,
            keep=tuple(doc.keep),
            derives=derives,
            settings={name: float(value) for name, value in doc.settings.items()},
            samples=samples,
            commands={name: self._command(name) for name in doc.commands},
            reply=compile_reply(doc.reply, self._reply_at()) if doc.reply else None,
            hook=doc.hook or "",
            golden=tuple(
                Golden(
                    packets=tuple(map(bytes.fromhex, golden.hex)),
                    fields=golden.fields,
                    samples=None if golden.samples is None else tuple(golden.samples),
                    every_ms=golden.every_ms or period_ms or 1000,
                    about=golden.about,
                )
                for golden in self.written.doc.golden
            ),
        )

    def _table(self) -> Table:
        doc = self.doc
        pages = dict(doc.pages)
        for i, page in enumerate(doc.common):
            if page not in self.common:
                raise self.fail(("common", i), f"there is no common page {page}", "write it under `common_pages:` of a profile file")
            pages.setdefault(page, list(self.common[page]))
        if doc.common and doc.page is None:
            raise self.fail(("common",), "common pages need `page`", "say which byte names the page")
        key = PAGE_KEY if doc.page else int(doc.flags[1:]) // 8 if doc.flags else NO_KEY
        always = compile_rows(doc.fields, key, -1, self.names, lambda place, detail, cure: self.fail(("fields", *place), detail, cure))
        compiled = {
            page: compile_rows(
                rows, key, page, self.names, lambda place, detail, cure, page=page: self.fail(("pages", page, *place), detail, cure)
            )
            for page, rows in pages.items()
        }
        for owner, gate in self.names.gates:
            self._known(gate, ("fields", owner, "state_gate"))
        return Table(key, doc.page.byte if doc.page else 0, doc.page.mask if doc.page else 0, always, compiled)

    def _known(self, name: str, place: Place) -> str:
        if name not in self.names.infos:
            raise self.fail(place, f"no field is named {name!r}", f"use one of {', '.join(self.names.infos)}")
        return name

    def _derive(self, i: int, doc: DeriveDoc) -> Derive:
        here: Place = ("derive", i)
        field = self._known(doc.count or doc.field or "", (*here, "count" if doc.count else "field"))
        time = self._known(doc.time, (*here, "time")) if doc.time else ""
        previous = self._known(doc.previous, (*here, "previous")) if doc.previous else ""
        high = self._known(doc.high, (*here, "high")) if doc.high else ""
        if doc.scale and doc.scale not in self.doc.settings:
            raise self.fail((*here, "scale"), f"there is no setting {doc.scale!r}", "write it with its default under `settings:`")
        wrap, time_wrap = self.names.wraps.get(field, 0.0), self.names.wraps.get(time, 0.0) / doc.tick
        if (doc.kind not in ("toggles", "inverse") and not wrap) or (time and not time_wrap):
            raise self.fail(here, "only integers count and roll over", "use fields of an integer type without `repeat`")
        if doc.name in self.names.infos:
            raise self.fail((*here, "name"), f"{doc.name!r} is a field already", "give it another name")
        self.names.infos[doc.name] = FieldInfo(doc.name, doc.unit, {}, _range(doc.plausible))
        return Derive(
            name=doc.name,
            kind="rate" if doc.kind == "power_from_torque" else doc.kind,
            field=field,
            time=time,
            previous=previous,
            high=high,
            wrap=wrap,
            time_wrap=time_wrap,
            tick=float(doc.tick),
            per=6.283185307179586 * doc.per if doc.kind == "power_from_torque" else float(doc.per),
            scale=doc.scale or "",
            hold_us=round(doc.hold_s * 1e6),
            max_gap_us=round((doc.max_gap_s or time_wrap * 0.9 or 60) * 1e6),
        )

    def _samples(self, i: int, doc: SamplesDoc) -> SampleRule:
        here: Place = ("samples", i) if isinstance(self._raw("samples"), list) else ("samples",)
        each = None
        if doc.each:
            self._known(doc.each.field, (*here, "each", "field"))
            beside = tuple((to, self._known(field, (*here, "each", "with", to))) for to, field in doc.each.beside.items())
            aged, every_us = doc.each.age == "after", float(doc.each.every_ms or 0) * 1000
            each = Each(doc.each.field, doc.each.to, float(doc.each.mul), float(doc.each.div), aged, every_us, beside)
        return SampleRule(
            layout=doc.layout,
            constants={name: float(value) for name, value in doc.set.items()},
            sources=tuple(
                (
                    to,
                    tuple(
                        Source(self._known(one.field, (*here, "map", to)), float(one.mul), float(one.div), float(one.add), one.values)
                        for one in sources
                    ),
                )
                for to, sources in doc.map.items()
            ),
            each=each,
            once_per=self._known(doc.once_per, (*here, "once_per")) if doc.once_per else "",
        )

    def _raw(self, word: str) -> object:
        data = self.written.marked.data
        for part in self.written.place:
            data = data[part]
        return data.get(word)

    def _command(self, name: str):  # noqa: ANN202
        return compile_command(
            name,
            self.doc.commands[name],
            self.doc.envelope,
            lambda place, detail, cure: self.fail(("commands", name, *place), detail, cure),
        )

    def _reply_at(self) -> int:
        return self.doc.page.byte if self.doc.page and self.doc.reply and self.doc.reply.page is not None else 0


def _range(pair: Sequence[float] | None) -> tuple[float, float] | None:
    return None if pair is None else (float(pair[0]), float(pair[1]))
