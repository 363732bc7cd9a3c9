"""OCI seccomp profiles, as containers take them: the runtime's form and the longer one of Docker and Podman.

Rules are tried in order and the first that matches decides. An argument is compared in the width of its
prototype, without sign: the upper half of a 32-bit parameter, which libseccomp would look at, is garbage
that the kernel drops.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from typing import Any

from trapline import abi
from trapline.bpf import action as actions
from trapline.bpf.conditions import Combined, Comparison, Condition, Negated, arg
from trapline.bpf.policy import Program, Rule, compile_policy, native_arches, rules_for
from trapline.errors import UsageError

_ACTIONS = {
    "SCMP_ACT_KILL": actions.RET_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": actions.RET_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": actions.RET_KILL_PROCESS,
    "SCMP_ACT_TRAP": actions.RET_TRAP,
    "SCMP_ACT_ERRNO": actions.RET_ERRNO,
    "SCMP_ACT_TRACE": actions.RET_TRACE,
    "SCMP_ACT_ALLOW": actions.RET_ALLOW,
    "SCMP_ACT_LOG": actions.RET_LOG,
    "SCMP_ACT_NOTIFY": actions.RET_USER_NOTIF,
}
_ACTION_NAMES = {value: name for name, value in _ACTIONS.items() if name != "SCMP_ACT_KILL"}
_ARCHES = {"SCMP_ARCH_X86_64": "x86_64", "SCMP_ARCH_X86": "i386", "SCMP_ARCH_AARCH64": "aarch64"}
_ARCH_NAMES = {value: name for name, value in _ARCHES.items()}
#: How includes and excludes spell them.
_GO_ARCHES = {"x86_64": "amd64", "i386": "x86", "aarch64": "arm64"}
_TOP = {
    *("defaultAction", "defaultErrnoRet", "defaultErrno", "architectures", "archMap", "syscalls", "flags"),
    *("listenerPath", "listenerMetadata"),
}
_ENTRY = {"names", "name", "action", "errnoRet", "errno", "args", "comment", "includes", "excludes"}
_ARGUMENT = {"index", "value", "valueTwo", "op"}
_WHEN = {"caps", "arches", "minKernel"}
EPERM = 1


class Profile:
    """An OCI seccomp profile, resolved for one machine.

    :ivar rules: in the profile's order.
    :ivar default: the action where none matches.
    :ivar arches: those of the profile that this package has tables for, the native one first.
    :ivar notes: what the profile asks for that the filter leaves out, and why; for people to read.
    """

    def __init__(self, rules: list[Rule], default: int, arches: tuple[str, ...], notes: list[str]) -> None:
        self.rules = rules
        self.default = default
        self.arches = arches
        self.notes = notes

    def compile(self) -> Program:
        """Return the filter."""
        return compile_policy(self.rules, default=self.default, arches=self.arches)


def load(
    text: str | bytes,
    *,
    caps: Collection[str] = (),
    arch: str | None = None,
    kernel: tuple[int, int] | None = None,
) -> Profile:
    """Return the profile in *text*, a JSON object.

    :param caps: capabilities that the container has, such as ``"CAP_SYS_ADMIN"``, for includes and excludes.
    :param arch: the machine's architecture; this one by default.
    :param kernel: its kernel version, for ``minKernel``; this one by default.
    :raises UsageError: it is no profile, or asks for something that is not supported.
    """
    try:
        profile = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the profile is no JSON: {error}") from None
    if isinstance(profile, dict) and isinstance(profile.get("linux"), dict):
        profile = profile["linux"].get("seccomp", profile)  # a whole config.json
    _check_keys(profile, _TOP, "the profile")
    if "defaultAction" not in profile:
        raise UsageError("the profile has no defaultAction; is this an OCI seccomp profile?")
    arch = arch or abi.native_arch()
    notes: list[str] = []
    arches = _arches(profile, arch, notes)
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"), "the profile")
    if profile.get("flags"):
        notes.append(
            f"flags {', '.join(profile['flags'])} are for who installs the filter; they are not part of it"
        )
    if profile.get("listenerPath"):
        notes.append("listenerPath is for who installs the filter; it is not part of it")
    have = {_capability(cap) for cap in caps}
    rules: list[Rule] = []
    unknown: dict[str, None] = {}
    for at, entry in enumerate(profile.get("syscalls") or ()):
        where = f"syscalls[{at}]"
        _check_keys(entry, _ENTRY, where)
        if not _applies(entry, have, arch, kernel, where):
            continue
        verdict = _action(entry.get("action"), entry.get("errnoRet"), where)
        conditions = _conditions(entry.get("args") or (), where)
        for name in entry.get("names") or [entry[key] for key in ("name",) if key in entry]:
            if not _known(name, arches):
                unknown[name] = None
                continue
            for condition in conditions:
                rules += rules_for([name], condition, verdict, arches)
    if unknown:
        notes.append(f"{len(unknown)} names exist on none of {', '.join(arches)}: {', '.join(unknown)}")
    return Profile(rules, default, arches, notes)


def _check_keys(thing: Any, allowed: set[str], where: str) -> None:
    if not isinstance(thing, dict):
        raise UsageError(f"{where} is no JSON object")
    for key in thing:
        if key not in allowed:
            raise UsageError(
                f"{where} has {key!r}, which is not supported; there are {', '.join(sorted(allowed))}"
            )


def _known(name: str, arches: Sequence[str]) -> bool:
    inside = (*abi.SOCKETCALL.values(), *abi.IPC.values()) if "i386" in arches else ()
    return name in inside or any(abi.exists(name, arch) for arch in arches)


def _arches(profile: dict[str, Any], arch: str, notes: list[str]) -> tuple[str, ...]:
    listed: list[str] = []
    if profile.get("archMap"):
        native = _ARCH_NAMES[arch]
        for entry in profile["archMap"]:
            if entry.get("architecture") == native:
                listed = [native, *(entry.get("subArchitectures") or ())]
        if not listed:
            raise UsageError(f"the profile's archMap has nothing for {native}, this machine's architecture")
    else:
        listed = list(profile.get("architectures") or [_ARCH_NAMES[arch]])
    found = [_ARCHES[name] for name in listed if name in _ARCHES]
    usable = tuple(name for name in native_arches(arch) if name in found)
    for name in listed:
        if name == "SCMP_ARCH_X32":
            notes.append("SCMP_ARCH_X32: x32 calls get ENOSYS, as on a kernel without x32")
        elif _ARCHES.get(name) not in usable:
            notes.append(
                f"{name}: calls of it end the process; it has no table here or is not this machine's"
            )
    if not usable:
        raise UsageError(f"the profile is for {', '.join(listed)}, and this machine is {arch}")
    return usable


def _action(name: object, data: object, where: str) -> int:
    if not isinstance(name, str) or name not in _ACTIONS:
        raise UsageError(f"{where}: unknown action {name!r}; there are {', '.join(_ACTIONS)}")
    verdict = _ACTIONS[name]
    if verdict in (actions.RET_ERRNO, actions.RET_TRACE):
        number = EPERM if data is None else data
        if not isinstance(number, int) or not 0 <= number <= actions.MAX_ERRNO:
            raise UsageError(f"{where}: errnoRet {number!r} is no errno")
        return verdict | number
    return verdict


def _capability(name: str) -> str:
    upper = name.upper()
    return upper if upper.startswith("CAP_") else f"CAP_{upper}"


def _applies(
    entry: dict[str, Any], caps: set[str], arch: str, kernel: tuple[int, int] | None, where: str
) -> bool:
    """Whether the conditions on machine and container, ``includes`` and ``excludes``, are met."""
    for key, wanted in (("includes", True), ("excludes", False)):
        when = entry.get(key) or {}
        _check_keys(when, _WHEN, f"{where}.{key}")
        facts = [_capability(cap) in caps for cap in when.get("caps") or ()]
        if when.get("arches"):
            facts.append(_GO_ARCHES[arch] in when["arches"])
        if when.get("minKernel"):
            facts.append((kernel or _kernel()) >= version(when["minKernel"], f"{where}.{key}"))
        if any(fact is not wanted for fact in facts):
            return False
    return True


def version(text: str, where: str) -> tuple[int, int]:
    """Return a kernel version such as ``"4.8"`` as two numbers.

    :raises UsageError: it is none; *where* says whose.
    """
    parts = text.split(".")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise UsageError(f"{where}: {text!r} is no kernel version such as 4.8")
    return int(parts[0]), int(parts[1])


def _kernel() -> tuple[int, int]:
    # The profile asks for the version, whatever the kernel can do.
    first, second = os.uname().release.split("-")[0].split(".")[:2]
    return int(first), int(second)


def _conditions(arguments: Sequence[dict[str, Any]], where: str) -> list[Condition | None]:
    """Return the alternatives: tests of different arguments must all hold, of the same one any."""
    tests: list[Condition] = []
    indexes: set[int] = set()
    for argument in arguments:
        _check_keys(argument, _ARGUMENT, f"{where}.args")
        index, value, second = argument.get("index"), argument.get("value", 0), argument.get("valueTwo", 0)
        if not isinstance(index, int) or not isinstance(value, int) or not isinstance(second, int):
            raise UsageError(f"{where}.args: index, value and valueTwo must be numbers")
        tests.append(_test(argument.get("op"), index, value, second, where))
        indexes.add(index)
    if not tests:
        return [None]
    if len(indexes) < len(tests):
        return list(tests)
    joined = tests[0]
    for test in tests[1:]:
        joined = joined & test
    return [joined]


def _test(op: object, index: int, value: int, second: int, where: str) -> Condition:
    subject = arg(index).unsigned
    if op == "SCMP_CMP_MASKED_EQ":
        return (subject & value) == second
    comparisons = {
        "SCMP_CMP_NE": subject != value,
        "SCMP_CMP_LT": subject < value,
        "SCMP_CMP_LE": subject <= value,
        "SCMP_CMP_EQ": subject == value,
        "SCMP_CMP_GE": subject >= value,
        "SCMP_CMP_GT": subject > value,
    }
    if not isinstance(op, str) or op not in comparisons:
        raise UsageError(
            f"{where}.args: unknown op {op!r}; there are {', '.join(comparisons)}, SCMP_CMP_MASKED_EQ"
        )
    return comparisons[op]


def dump(
    rules: Sequence[tuple[Sequence[str], Condition | None, int]],
    *,
    default: int = actions.RET_ALLOW,
    arches: Sequence[str] | None = None,
) -> str:
    """Return rules as an OCI profile: JSON in the runtime's form.

    :param rules: names, condition and action of each.
    :raises UsageError: a condition is more than OCI can say: the instruction pointer, an ordering by sign.
    """
    arches = native_arches() if arches is None else arches
    syscalls: list[dict[str, Any]] = []
    for names, condition, verdict in rules:
        listed = sorted(abi.names(arches[0])) if "*" in names else list(names)
        if condition is None:
            syscalls.append({"names": listed, **_action_fields(verdict)})
            continue
        for name in listed:
            syscalls += [
                {"names": [name], **_action_fields(verdict), "args": arguments}
                for arguments in _alternatives(condition, name, arches[0])
            ]
    profile = {
        **{f"default{key[0].upper()}{key[1:]}": value for key, value in _action_fields(default).items()},
        "architectures": [_ARCH_NAMES[arch] for arch in arches],
        "syscalls": syscalls,
    }
    return json.dumps(profile, indent=2)


def _action_fields(verdict: int) -> dict[str, Any]:
    name = _ACTION_NAMES.get(verdict & actions.ACTION_MASK)
    if name is None:
        raise UsageError(f"OCI has no action {actions.text(verdict)}")
    if verdict & actions.ACTION_MASK in (actions.RET_ERRNO, actions.RET_TRACE):
        return {"action": name, "errnoRet": verdict & actions.DATA_MASK}
    return {"action": name}


_OPERATORS = {"==": "EQ", "!=": "NE", "<": "LT", "<=": "LE", ">": "GT", ">=": "GE"}
_OPPOSITES = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


def _alternatives(
    condition: Condition, name: str, arch: str, negate: bool = False
) -> list[list[dict[str, Any]]]:
    """Return lists of OCI arguments of which one must be fulfilled."""
    if isinstance(condition, Negated):
        return _alternatives(condition.part, name, arch, not negate)
    if isinstance(condition, Combined):
        parts = [_alternatives(part, name, arch, negate) for part in condition.parts]
        if (condition.kind == "or") != negate:
            return [alternative for part in parts for alternative in part]
        product: list[list[dict[str, Any]]] = [[]]
        for part in parts:
            product = [[*left, *right] for left in product for right in part]
        for arguments in product:
            if len({argument["index"] for argument in arguments}) < len(arguments):
                raise UsageError(
                    f"OCI cannot say {condition!r} of {name}: tests of one argument are alternatives there"
                )
        return product
    assert isinstance(condition, Comparison)
    return _argument(condition, name, arch, negate)


def _argument(test: Comparison, name: str, arch: str, negate: bool) -> list[list[dict[str, Any]]]:
    key = test.subject.key
    if key is None:
        raise UsageError(
            f"OCI cannot say {test!r}: profiles know arguments only, not the instruction pointer"
        )
    params = abi.signature(name, arch).params
    operand = test.operand(name, arch)
    index = (operand.words[0] - 16) // 8
    full = (1 << operand.bits) - 1
    signed = operand.signed and index < len(params)
    values = [value & full for value in test.values if isinstance(value, int)]
    kind = _OPPOSITES.get(test.kind, test.kind) if negate else test.kind

    def one(op: str, value: int, second: int = 0) -> dict[str, Any]:
        return {"index": index, "value": value, "valueTwo": second, "op": f"SCMP_CMP_{op}"}

    if kind in ("<", "<=", ">", ">=") and signed:
        raise UsageError(
            f"OCI cannot say {test!r} of {name}: the parameter has a sign and OCI compares without"
        )
    if kind in _OPERATORS:
        return [[one(_OPERATORS[kind], values[0])]]
    masked = (
        {"has": (values[0], values[0]), "none": (values[0], 0), "&==": tuple(values[:2])} if values else {}
    )
    if kind in masked and not negate:
        return [[one("MASKED_EQ", *masked[kind])]]
    if kind == "isin" and not negate:
        return [[one("EQ", value)] for value in values]
    bits = [1 << bit for bit in range(operand.bits) if values and values[0] >> bit & 1]
    if (kind, negate) == ("any", True):
        return [[one("MASKED_EQ", values[0], 0)]]
    if (kind, negate) in (("any", False), ("none", True)):
        return [[one("MASKED_EQ", bit, bit)] for bit in bits]
    if (kind, negate) == ("has", True):
        return [[one("MASKED_EQ", bit, 0)] for bit in bits]
    raise UsageError(f"OCI cannot say {'not ' if negate else ''}{test!r} of {name}")
