"""Write abi/numbers_<arch>.py and abi/signatures_<arch>.py, and the path table of the native core."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import constants
from tables import ARCHES, ROOT, DataError, heading, rows

STRING_TYPES = ("const char *", "char *")


@dataclass
class Param:
    """One parameter while its meaning is being put together."""

    ctype: str
    name: str
    kind: str
    width: int
    signed: bool
    words: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One system call of one architecture."""

    name: str
    number: int  # -1: only behind socketcall or ipc
    params: list[Param] | None  # None: no prototype is known
    returns: str = "int"
    cloexec: str = ""

    def param(self, name: str) -> Param | None:
        """Find a parameter by name; *name* may list spellings, separated by ``|``."""
        spellings = name.split("|")
        return next((param for param in self.params or () if param.name in spellings), None)


class Types:
    """Bits and signedness of scalar types."""

    def __init__(self, data: Path) -> None:
        self.table = {row["ctype"]: row for row in rows("types", data)}

    def param(self, declaration: str, arch: str) -> Param:
        """Split one declaration into type and name and look the type up."""
        ctype, name = declaration.rsplit(" ", 1)
        word = 32 if arch == "i386" else 64
        if "*" in ctype:
            target = ctype.split("*")[0].replace("const", "").split()
            words = {"pointer": "in" if pointee_is_const(ctype) else "?"}
            if target[0] in ("struct", "union") and ctype.count("*") == 1:
                words["struct"] = target[1]
            return Param(ctype, name, "ptr", word, False, words)
        plain = " ".join(part for part in ctype.split() if part != "const")
        row = self.table["unsigned int" if plain.startswith("enum ") else plain]
        width = word if row["bits"] == "word" else int(row["bits"])
        return Param(ctype, name, row["kind"], width, row["signed"] == "yes")


def pointee_is_const(ctype: str) -> bool:
    """Whether what the outermost pointer points to is const."""
    return "const" in ctype[: ctype.rindex("*")].rsplit("*", 1)[-1].split()


def read_calls(arch: str, data: Path) -> dict[str, Call]:
    """Read numbers and prototypes of one architecture."""
    types = Types(data)
    by_hand = {(row["name"], row["arch"]): row["proto"] for row in rows("prototypes", data)}
    calls = {}
    for row in rows("syscalls", data):
        if row[arch] == "-":
            continue
        name = row["name"]
        proto = row["proto"] if arch == "x86_64" else row[f"{arch} proto"]
        if proto == "=":
            proto = row["proto"]
        proto = by_hand.get((name, arch)) or by_hand.get((name, "*")) or proto
        params = None
        if proto != "?":
            params = [types.param(text, arch) for text in proto.split(", ") if text != "void"]
        calls[name] = Call(name, int(row[arch]), params)
    for (name, only), proto in by_hand.items():
        if only == arch and name not in calls:
            calls[name] = Call(name, -1, [types.param(text, arch) for text in proto.split(", ")])
    return calls


def resolve(words: str, call: Call, values: dict[str, int]) -> str:
    """Turn ``param:FLAG`` into ``param:0x80000``."""
    param, flag = words.split(":")
    if call.param(param) is None:
        raise DataError(f"{call.name}: no parameter {param!r} for {words!r}")
    return f"{param}:{values[flag]:#x}"


def apply_meaning(call: Call, param: Param, meaning: str) -> None:
    """Apply one row of params.tsv."""
    kind, *words = meaning.split(" ")
    param.kind = kind
    if kind in ("fd", "pid"):
        # Whatever the prototype says (mmap's fd is an unsigned long), the lookup behind it takes an int.
        param.width, param.signed = 32, True
    if kind == "str":
        param.words["pointer"] = "in"
    for word in words:
        key, _, value = word.partition("=")
        if key in ("in", "out", "inout"):
            param.words["pointer"] = key
        elif key in ("size", "count"):
            target = call.param(value)
            if target is None:
                raise DataError(f"{call.name}.{param.name}: no parameter {value!r}")
            param.words[f"{key}_of"] = target.name
        elif key in ("filled", "lo", "hi"):
            param.words["filled" if key == "filled" else "half"] = "1" if key == "filled" else key
        else:
            param.words[key] = value


def apply_params(calls: dict[str, Call], values: dict[str, int], data: Path, used: set[str]) -> None:
    """Apply params.tsv to the calls of one architecture, noting which rows found something in *used*."""
    for row in rows("params", data):
        key = row["calls"] + " " + row["param"]
        for name in calls if row["calls"] == "*" else row["calls"].split(","):
            call = calls.get(name)
            if call is None or call.params is None:
                continue
            if row["param"] == "return":
                call.returns, _, rest = row["meaning"].partition(" ")
                call.cloexec = resolve(rest.partition("=")[2], call, values) if rest else ""
                used.add(key)
                continue
            for param in call.params:
                if param.name in row["param"].split("|"):
                    # The rules for a name alone are for plain integers.
                    if row["calls"] == "*" and "pointer" in param.words:
                        continue
                    apply_meaning(call, param, row["meaning"])
                    used.add(key)


def apply_paths(calls: dict[str, Call], values: dict[str, int], data: Path, used: set[str]) -> None:
    """Apply paths.tsv."""
    for row in rows("paths", data):
        for name in row["calls"].split(","):
            call = calls.get(name)
            if call is None:
                continue
            param = call.param(row["param"])
            if param is None:
                raise DataError(f"paths.tsv: {name} has no parameter {row['param']!r}")
            used.add(row["calls"] + " " + row["param"])
            param.kind = "path"
            param.words["pointer"] = "in"
            if row["dirfd"] != "-":
                param.words["dirfd"] = row["dirfd"]
            follow, _, flag = row["follow"].partition("/")
            param.words["follow"] = "1" if follow == "yes" else "0"
            if flag:
                param.words["follow_flag"] = resolve(flag, call, values)
            if row["empty"] == "*":
                param.words["empty"] = "1"
            elif row["empty"] != "-":
                param.words["empty_flag"] = resolve(row["empty"], call, values)
            if row["nullable"] == "yes":
                param.words["nullable"] = "1"


def keep_64_bit_times(calls: dict[str, Call]) -> None:
    """On i386, ``timespec`` is the 32-bit one; calls whose type is the 64-bit one say so."""
    for call in calls.values():
        for param in call.params or ():
            for name in ("timespec", "itimerspec"):
                if param.words.get("struct") == name and f"__kernel_{name}" in param.ctype:
                    param.words["struct"] = f"__kernel_{name}"


def check(calls: dict[str, Call], arch: str, families: set[str]) -> None:
    """Every pointer must have a direction, every string be a path, str or buf, every family exist."""
    wrong = []
    for call in calls.values():
        for param in call.params or ():
            if param.words.get("family", "open") not in families:
                wrong.append(f"{call.name}.{param.name}: no flag family {param.words['family']!r}")
            if param.words.get("pointer") == "?" and param.kind not in ("addr", "arg"):
                wrong.append(f"{arch}: {call.name}.{param.name} ({param.ctype}): direction unknown")
            if param.ctype in STRING_TYPES and param.kind == "ptr":
                wrong.append(f"{arch}: {call.name}.{param.name} ({param.ctype}): path, str or buf?")
    if wrong:
        raise DataError("\n".join(wrong))


def load(data: Path) -> dict[str, dict[str, Call]]:
    """Read every table; the result maps architecture and name to calls."""
    used: set[str] = set()
    result = {}
    families = {row["family"] for row in rows("families", data)}
    for arch in ARCHES:
        values = constants.values(arch, data)
        calls = read_calls(arch, data)
        apply_params(calls, values, data, used)
        apply_paths(calls, values, data, used)
        if arch == "i386":
            keep_64_bit_times(calls)
        check(calls, arch, families)
        result[arch] = calls
    for table in ("params", "paths"):
        for row in rows(table, data):
            if row["calls"] + " " + row["param"] not in used:
                raise DataError(f"data/{table}.tsv: {row['calls']} {row['param']}: matches no call")
    return result


def encode(call: Call) -> str:
    """Write a signature as one string, which abi/prototypes.py reads."""
    parts = [call.returns + (f",cloexec={call.cloexec}" if call.cloexec else "")]
    for param in call.params or ():
        words = [f"{key}={value}" for key, value in param.words.items() if value != "?"]
        width = f"{param.width}{'s' if param.signed else 'u'}"
        parts.append(",".join([param.ctype, param.name, param.kind, width, *words]))
    return ";".join(parts)


def generate(data: Path = ROOT / "data") -> dict[str, str]:
    """Return the files to write, by their path below the root."""
    files = {}
    head = heading("syscalls.py")
    everything = load(data)
    for arch, calls in everything.items():
        ordered = sorted(calls.values(), key=lambda call: call.number)
        lines = [head, f'"""System call numbers of {arch}."""\n\n', "NUMBERS: dict[str, int] = {\n"]
        lines += [f'    "{call.name}": {call.number},\n' for call in ordered if call.number >= 0]
        files[f"src/trapline/abi/numbers_{arch}.py"] = "".join([*lines, "}\n"])
        lines = [
            head,
            "# ruff: noqa: E501\n# fmt: off\n",
            f'"""System call signatures of {arch}, as prototypes.parse reads them."""\n\n',
        ]
        lines += ["SIGNATURES: dict[str, str] = {\n"]
        lines += [f'    "{call.name}": "{encode(call)}",\n' for call in ordered if call.params is not None]
        files[f"src/trapline/abi/signatures_{arch}.py"] = "".join([*lines, "}\n"])
    return files
