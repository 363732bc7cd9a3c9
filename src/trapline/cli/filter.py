"""``trapline filter``: compile, draw, disassemble, simulate and count a filter; OCI profiles in and out."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from trapline.bpf.conditions import Condition
    from trapline.bpf.program import Program

    Rules = list[tuple[list[str], Condition | None, int]]

_EPILOG = """\
A rule is NAME[,NAME...] [if CONDITION] [-> ACTION]. NAME is a system call, syscall_<nr> or "*". CONDITION
compares parameters by their kernel names, arg(0) to arg(5), or ip: fd == 3, count >= 4096,
flags.has(O_CREAT), flags.any(O_WRONLY|O_RDWR), (prot & 6) == 6, whence.isin(0, 1), ip.within(START, END);
combined by and, or, not. ACTION is allow, log, notify, trace, trap, kill, kill_thread or errno(NAME).
The first rule that matches a call decides it.

examples:
  trapline filter show -e openat,connect
  trapline filter show -e 'openat if flags.any(O_WRONLY|O_RDWR) -> errno(EROFS)'
  trapline filter simulate -e 'openat if flags.any(O_WRONLY|O_RDWR) -> errno(EROFS)' openat AT_FDCWD 0 O_RDWR
  trapline filter count --measure -e connect
  trapline filter tree 0x400000-0x500000 0x7f0000000000+0x1000
  trapline filter oci import /usr/share/containers/seccomp.json
  trapline filter oci export -e 'ptrace,bpf -> errno(EPERM)'
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add ``filter`` and what it has below it."""
    parser = _parser(
        subparsers,
        "filter",
        "compile, draw, disassemble, simulate and count a seccomp filter; OCI profiles in and out",
        _EPILOG,
    )
    parser.set_defaults(run=_help(parser))
    below = parser.add_subparsers(metavar="WHAT", title="what to do")

    show = _parser(below, "show", "print the filter disassembled")
    _add_source(show)
    show.add_argument("-o", "--output", metavar="FILE", help="write the array of struct sock_filter instead")
    show.add_argument(
        "--json", action="store_true", help="print code, jt, jf, k and text of each instruction"
    )
    show.set_defaults(run=_show)

    simulate = _parser(below, "simulate", "say what the filter answers to one call, and the path it takes")
    _add_source(simulate)
    simulate.add_argument("call", metavar="CALL", help="name or number of the system call")
    simulate.add_argument("arguments", metavar="ARG", nargs="*", help="0x10, -1, AT_FDCWD, O_RDWR|O_CLOEXEC")
    simulate.add_argument(
        "--call-arch", metavar="ARCH", help="x86_64, i386, aarch64 (default: this machine's)"
    )
    simulate.add_argument("--ip", metavar="ADDRESS", default="0", help="instruction pointer (default: 0)")
    simulate.add_argument("--json", action="store_true", help="print one JSON object")
    simulate.set_defaults(run=_simulate)

    count = _parser(below, "count", "count instructions, paths, and the numbers that the kernel caches")
    _add_source(count)
    count.add_argument(
        "--measure", action="store_true", help="also measure what the cache is worth here (1 s)"
    )
    count.add_argument("--json", action="store_true", help="print one JSON object")
    count.set_defaults(run=_count)

    tree = _parser(below, "tree", "draw the search over instruction-pointer ranges")
    tree.add_argument(
        "ranges", metavar="RANGE", nargs="+", help="START-END (END not included) or START+LENGTH"
    )
    tree.set_defaults(run=_tree)

    oci = _parser(below, "oci", "OCI seccomp profiles, such as Docker's and Podman's")
    oci.set_defaults(run=_help(oci))
    either = oci.add_subparsers(metavar="DIRECTION", title="direction")
    load = _parser(either, "import", "compile a profile, say what it becomes and what is left out")
    load.add_argument("profile", metavar="FILE", help="JSON; - is standard input")
    load.add_argument("-o", "--output", metavar="FILE", help="write the array of struct sock_filter")
    _add_machine(load)
    load.add_argument("--json", action="store_true", help="print one JSON object")
    load.set_defaults(run=_oci_import)
    dump = _parser(either, "export", "print rules as a profile")
    _add_rules(dump)
    dump.add_argument("-o", "--output", metavar="FILE", help="write there instead of standard output")
    dump.set_defaults(run=_oci_export)


def _parser(
    subparsers: argparse._SubParsersAction[Any], name: str, text: str, epilog: str | None = None
) -> argparse.ArgumentParser:
    described = text[0].upper() + text[1:] + "."
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=text,
        description=described,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _help(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    def show(_: argparse.Namespace) -> int:
        parser.print_help()
        return 0

    return show


def _add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-e",
        "--rule",
        metavar="RULE",
        action="append",
        help="NAME[,NAME...] [if CONDITION] [-> ACTION]; repeatable, the first that matches decides",
    )
    parser.add_argument("--when", metavar="CONDITION", help="for rules that have none of their own")
    parser.add_argument("--action", default="notify", help="for rules that have none (default: %(default)s)")
    parser.add_argument(
        "--default", default="allow", metavar="ACTION", help="where no rule matches (default: allow)"
    )
    parser.add_argument(
        "--arch", metavar="ARCH[,ARCH]", help="whose calls to judge (default: x86_64,i386 here)"
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cap", metavar="CAP", action="append", default=[], help="a capability the container has; repeatable"
    )
    parser.add_argument("--kernel", metavar="VERSION", help="for the profile's minKernel (default: this one)")


def _add_source(parser: argparse.ArgumentParser) -> None:
    _add_rules(parser)
    parser.add_argument("--oci", metavar="FILE", help="take an OCI seccomp profile instead of rules")
    parser.add_argument("--raw", metavar="FILE", help="take an array of struct sock_filter instead of rules")
    _add_machine(parser)


def _rules(args: argparse.Namespace) -> Rules:
    from trapline.bpf import expression
    from trapline.errors import UsageError

    if not args.rule:
        raise UsageError("no rule is given; add -e NAME, for example -e openat,connect")
    when = expression.condition(args.when) if args.when else None
    action = expression.action(args.action)
    found: Rules = []
    for text in args.rule:
        names, own, verdict = expression.rule(text)
        found.append((names, when if own is None else own, action if verdict is None else verdict))
    return found


def _arches(args: argparse.Namespace) -> tuple[str, ...]:
    from trapline import abi
    from trapline.bpf.policy import native_arches
    from trapline.errors import UsageError

    if args.arch is None:
        return native_arches()
    arches = tuple(args.arch.split(","))
    for arch in arches:
        if arch not in abi.ARCHES:
            raise UsageError(f"unknown architecture {arch!r}; there are {', '.join(abi.ARCHES)}")
    return arches


def _read(path: str) -> bytes:
    from trapline.errors import UsageError

    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _write(path: str, data: bytes) -> None:
    from trapline.errors import UsageError

    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def _kernel(args: argparse.Namespace) -> tuple[int, int] | None:
    from trapline.bpf import oci

    return oci.version(args.kernel, "--kernel") if args.kernel else None


def _program(args: argparse.Namespace) -> Program:
    from trapline.bpf import expression, oci
    from trapline.bpf.policy import Program, compile_policy, rules_for
    from trapline.errors import UsageError

    if sum(1 for source in (args.rule, args.oci, args.raw) if source) != 1:
        raise UsageError("give one of -e RULE, --oci FILE and --raw FILE")
    if args.raw:
        try:
            return Program.from_bytes(_read(args.raw))
        except ValueError as error:
            raise UsageError(f"{args.raw}: {error}") from None
    if args.oci:
        profile = oci.load(_read(args.oci), caps=args.cap, kernel=_kernel(args))
        _say(profile.notes)
        return profile.compile()
    arches = _arches(args)
    rules = [rule for names, when, action in _rules(args) for rule in rules_for(names, when, action, arches)]
    return compile_policy(rules, default=expression.action(args.default), arches=arches)


def _say(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"trapline: note: {note}", file=sys.stderr)


def _show(args: argparse.Namespace) -> int:
    program = _program(args)
    if args.output:
        _write(args.output, program.to_bytes())
    elif args.json:
        keys = ("code", "jt", "jf", "k", "text")
        lines = program.disassemble().splitlines()
        rows = [(*fields, line) for fields, line in zip(program.instructions, lines, strict=True)]
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=1))
    else:
        print(program.disassemble())
    return 0


def _simulate(args: argparse.Namespace) -> int:
    from trapline import abi
    from trapline.bpf import action, expression
    from trapline.errors import UsageError

    program = _program(args)
    arch = args.call_arch or abi.native_arch()
    if arch not in abi.ARCHES:
        raise UsageError(f"unknown architecture {arch!r}; there are {', '.join(abi.ARCHES)}")
    numeric = args.call[:1].isdigit() or args.call[:1] == "-"
    nr = expression.number(args.call) if numeric else abi.number(args.call, arch)
    if len(args.arguments) > 6:
        raise UsageError(f"a system call has at most 6 arguments, not {len(args.arguments)}")
    mask = (1 << (32 if arch == "i386" else 64)) - 1
    values = [expression.number(text) & mask for text in args.arguments]
    result = program.run(nr, arch, values, expression.number(args.ip))
    lines = program.disassemble().splitlines()
    if args.json:
        path = [{"at": at, "text": lines[at]} for at in result.path]
        print(
            json.dumps({"action": action.text(result.action), "value": result.action, "path": path}, indent=1)
        )
    else:
        print("\n".join(lines[at] for at in result.path))
        count = len(result.path)
        print(f"{abi.name(nr, arch)}: {action.text(result.action)} after {count} instructions")
    return 0


def _count(args: argparse.Namespace) -> int:
    from trapline import abi
    from trapline.bpf import measure
    from trapline.bpf.analysis import longest_path_of

    program = _program(args)
    arches = _arches(args)
    report: dict[str, Any] = {
        "instructions": len(program),
        "longest_path": program.longest_path(),
        "arches": {},
    }
    for arch in arches:
        cached = program.cacheable_numbers(arch)
        paths = {
            name: longest_path_of(program.instructions, abi.number(name, arch), abi.AUDIT_ARCH[arch])
            for name in abi.names(arch)
        }
        report["arches"][arch] = {
            "numbers": len(paths),
            "cached": sum(1 for name in paths if abi.number(name, arch) in cached),
            "longest_path_of": {name: n for name, n in paths.items() if abi.number(name, arch) not in cached},
        }
    if args.measure:
        report["nanoseconds"] = measure.nanoseconds(
            {
                "no filter": None,
                "this filter": program,
                "this filter, never cached": measure.uncached(program),
            }
        )
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        print("\n".join(_count_text(report)))
    return 0


def _count_text(report: dict[str, Any]) -> list[str]:
    lines = [f"{report['instructions']} instructions of at most 4096; longest path {report['longest_path']}"]
    for arch, facts in report["arches"].items():
        share = 100 * facts["cached"] / facts["numbers"]
        lines.append(
            f"{arch}: {facts['cached']} of {facts['numbers']} calls ({share:.1f} %) are allowed by number "
            "alone; the kernel (5.11 and later) answers them without running the filter"
        )
        paths = sorted(facts["longest_path_of"].items(), key=lambda item: (-item[1], item[0]))
        lines += [f"  {name}: at most {length} instructions" for name, length in paths[:12]]
        if len(paths) > 12:
            lines.append(f"  and {len(paths) - 12} more of at most {paths[12][1]}")
    if "nanoseconds" in report:
        cost = report["nanoseconds"]
        lines.append("one getppid, median:")
        lines += [f"  {name}: {value:.0f} ns" for name, value in cost.items()]
        saved = cost["this filter, never cached"] - cost["this filter"]
        lines.append(f"the cache is worth {saved:.0f} ns to each call that it answers")
    return lines


def _tree(args: argparse.Namespace) -> int:
    from trapline.bpf import drawing, expression

    print(drawing.draw([expression.span(text) for text in args.ranges]))
    return 0


def _oci_import(args: argparse.Namespace) -> int:
    from trapline.bpf import action, oci

    profile = oci.load(_read(args.profile), caps=args.cap, kernel=_kernel(args))
    program = profile.compile()
    if args.output:
        _write(args.output, program.to_bytes())
    if args.json:
        report = {
            "rules": len(profile.rules),
            "default": action.text(profile.default),
            "arches": profile.arches,
            "instructions": len(program),
            "longest_path": program.longest_path(),
            "cached": {arch: len(program.cacheable_numbers(arch)) for arch in profile.arches},
            "notes": profile.notes,
        }
        print(json.dumps(report, indent=1))
        return 0
    _say(profile.notes)
    default = action.text(profile.default)
    print(f"{len(profile.rules)} rules for {', '.join(profile.arches)}, otherwise {default}")
    print(f"{len(program)} instructions, longest path {program.longest_path()}")
    for arch in profile.arches:
        print(f"{arch}: {len(program.cacheable_numbers(arch))} numbers are answered from the kernel's cache")
    return 0


def _oci_export(args: argparse.Namespace) -> int:
    from trapline.bpf import expression, oci

    text = oci.dump(_rules(args), default=expression.action(args.default), arches=_arches(args)) + "\n"
    if args.output:
        _write(args.output, text.encode())
    else:
        print(text, end="")
    return 0
