"""What works on this machine, what does not, and the exact remedy: every feature is tried, none looked up."""

from __future__ import annotations

import errno
import os
import time
from typing import Any, NamedTuple

from trapline import __version__, features
from trapline.doctor.catalog import ENTRIES, GROUPS, Entry
from trapline.doctor.engines import DEFAULT_ENGINE, ENGINES, Verdict, judge

#: Grows when a reader of the JSON form would have to change.
SCHEMA_VERSION = 1

_REFUSALS = (errno.EPERM, errno.EACCES)


class Finding(NamedTuple):
    """One feature as found here, with what it means.

    :ivar state: of a feature ``"works"`` or ``"missing"``, of a fact ``"yes"`` or ``"no"``; of either
        ``"untested"`` when it could not be tried.
    :ivar remedy: how to get it; ``None`` unless it is missing or was not tried.
    """

    entry: Entry
    feature: features.Feature
    state: str
    remedy: str | None


class Examination(NamedTuple):
    """Everything that was found out about this machine.

    :ivar seconds: wall time that it took.
    """

    findings: tuple[Finding, ...]
    verdicts: tuple[Verdict, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the default engine works here, if need be with limits."""
        return any(v.name == DEFAULT_ENGINE and v.verdict in ("works", "limited") for v in self.verdicts)


def examine(*, timeout_ms: int = 5000) -> Examination:
    """Try every feature, afresh, and judge every engine.

    :param timeout_ms: milliseconds that each attempt may take.
    """
    start = time.perf_counter()
    found = {feature.name: feature for feature in features.probe_all(fresh=True, timeout_ms=timeout_ms)}
    findings = []
    for group in GROUPS:
        for entry in ENTRIES:
            if entry.group == group and entry.name in found:
                feature = found[entry.name]
                findings.append(
                    Finding(entry, feature, _state(entry, feature), _remedy(entry, feature, found))
                )
    verdicts = tuple(judge(engine, found) for engine in ENGINES)
    return Examination(tuple(findings), verdicts, time.perf_counter() - start)


def _state(entry: Entry, feature: features.Feature) -> str:
    if feature.works is None:
        return "untested"
    if entry.fact:
        return "yes" if feature.works else "no"
    return "works" if feature.works else "missing"


def _remedy(entry: Entry, feature: features.Feature, found: dict[str, features.Feature]) -> str | None:
    confined = "seccomp_confined" in found and bool(found["seccomp_confined"])
    traced = "traced" in found and bool(found["traced"])
    if feature.works or entry.fact:
        return None
    if feature.works is None:
        if feature.errno == errno.EBUSY:
            return "try again outside of what installed the other listener"
        if feature.errno == errno.ETIMEDOUT:
            return "try again on a quieter machine; if it stays so, the kernel or sandbox hangs here"
        return "try again; there were no resources to try it with"
    killed = "SIGSYS" in feature.detail
    if feature.errno not in _REFUSALS and not killed:
        remedy = entry.absent
        # Container profiles of some runtimes answer ENOSYS for calls that the kernel has.
        if feature.errno == errno.ENOSYS and confined and entry.calls:
            remedy = f"{_allow(entry)}; if the kernel itself lacks it: {remedy}"
        return remedy
    refused = entry.refused or entry.absent
    if traced and "ptrace" in entry.calls:
        refused = f"run trapline outside of strace or the debugger; if it is not that: {refused}"
    return f"{_allow(entry)}; if it is not the filter: {refused}" if confined and entry.calls else refused


def _allow(entry: Entry) -> str:
    return (
        f"allow {', '.join(entry.calls)} in the seccomp filter that this process is under (docker or podman: "
        "--security-opt seccomp=PROFILE.json, or seccomp=unconfined; Kubernetes: seccompProfile.type; "
        "systemd: SystemCallFilter=)"
    )


def as_json(examination: Examination) -> dict[str, Any]:
    """Return the stable form that ``trapline doctor --json`` prints; docs/doctor.md describes it."""
    return {
        "schema": SCHEMA_VERSION,
        "trapline": __version__,
        "machine": {
            "architecture": os.uname().machine,
            "kernel": os.uname().release,
            "uid": os.geteuid(),
            "cpus": len(os.sched_getaffinity(0)),
        },
        "ok": examination.ok,
        "default_engine": DEFAULT_ENGINE,
        "engines": [
            {
                "name": verdict.name,
                "verdict": verdict.verdict,
                "missing": list(verdict.missing),
                "lacking": list(verdict.lacking),
            }
            for verdict in examination.verdicts
        ],
        "features": [
            {
                "name": finding.entry.name,
                "group": finding.entry.group,
                "kind": "fact" if finding.entry.fact else "feature",
                "title": finding.entry.title,
                "purpose": finding.entry.purpose,
                "state": finding.state,
                "errno": errno.errorcode.get(finding.feature.errno) if finding.feature.errno else None,
                "detail": finding.feature.detail,
                "remedy": finding.remedy,
            }
            for finding in examination.findings
        ],
        "seconds": round(examination.seconds, 4),
    }
