"""The report that a person reads: plain ASCII, 100 columns."""

from __future__ import annotations

import errno
import os
import textwrap

from trapline.doctor import Examination, Finding
from trapline.doctor.catalog import GROUPS
from trapline.doctor.engines import DEFAULT_ENGINE, Verdict
from trapline.engines.base import STARTABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH = 100
_INDENT = " " * 13


def render(examination: Examination) -> str:
    """Return the whole report, ending in a newline."""
    lines = [
        f"trapline doctor: {os.uname().machine}, Linux {os.uname().release}, "
        f"{len(examination.findings)} features tried in {examination.seconds:.2f} s"
    ]
    remedies = {finding.entry.name: finding.remedy for finding in examination.findings}
    lines += ["", "engines, as far as this machine allows"]
    for verdict in examination.verdicts:
        lines += _engine(verdict, remedies)
    for group, heading in GROUPS.items():
        findings = [finding for finding in examination.findings if finding.entry.group == group]
        if findings:
            lines += ["", heading]
        for finding in findings:
            lines += _finding(finding)
    lines += [""]
    if examination.ok:
        lines.append(f"The default engine ({DEFAULT_ENGINE}) works here.")
    else:
        usable = [
            v.name for v in examination.verdicts if v.verdict in ("works", "limited") and v.name in STARTABLE
        ]
        instead = f"use --engine {usable[0]} or follow" if usable else "no other engine does either: follow"
        lines.append(
            f"The default engine ({DEFAULT_ENGINE}) does not work here: {instead} the remedies above."
        )
    return "\n".join(lines) + "\n"


def _engine(verdict: Verdict, remedies: dict[str, str | None]) -> Iterator[str]:
    note = ""
    if verdict.missing:
        note = f"needs {', '.join(verdict.missing)}"
    elif verdict.lacking:
        note = f"without {', '.join(verdict.lacking)}"
    yield from _wrapped(f"  {verdict.name:<8} {verdict.verdict:<11} ", note, " " * 22)
    # Features that fail for one reason share their remedy.
    for remedy in dict.fromkeys(remedies.get(name) for name in verdict.missing):
        if remedy:
            yield from _wrapped(" " * 22 + "do: ", remedy, " " * 26)


def _finding(finding: Finding) -> Iterator[str]:
    entry, feature = finding.entry, finding.feature
    text = entry.purpose
    if feature.works and feature.detail:
        text = f"{text} ({feature.detail})"
    elif entry.fact and feature.detail:
        text = f"({feature.detail})"
    elif entry.fact and not feature.works:
        text = ""
    yield from _wrapped(f"  {finding.state:<8} {entry.title:<31} ", text, " " * 43)
    if finding.remedy is not None:
        why = feature.detail or errno.errorcode.get(feature.errno, "it has no effect")
        yield from _wrapped(f"{_INDENT}name: ", entry.name, _INDENT)
        yield from _wrapped(f"{_INDENT}why:  ", why, _INDENT + " " * 6)
        yield from _wrapped(f"{_INDENT}do:   ", finding.remedy, _INDENT + " " * 6)


def _wrapped(first: str, text: str, rest: str) -> list[str]:
    # Options and file names stay whole, so that they can be copied.
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first.rstrip()]
