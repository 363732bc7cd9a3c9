"""Lines of a trace, as far as they do not differ from one run to the next."""

from __future__ import annotations

import re

__all__ = ["by_thread", "normal"]


def by_thread(text: str) -> list[list[str]]:
    """Lines of each thread, in the order in which threads were made; interrupted lines are put together."""
    threads: dict[str, list[str]] = {}
    begun: dict[str, str] = {}
    for line in text.splitlines():
        found = re.match(r"(\d+)\s+(.*)", line)
        if found is None:
            continue
        tid, line = found.groups()
        lines = threads.setdefault(tid, [])
        if line.endswith("<unfinished ...>"):
            begun[tid] = line.removesuffix("<unfinished ...>").rstrip()
        elif line.startswith("<... "):
            rest = re.sub(r"^<\.\.\. \w+ resumed>", "", line)
            lines.append(begun.pop(tid, "") + (" " if begun and rest[:1] not in ",)" else "") + rest)
        else:
            lines.append(line)
    for tid, line in begun.items():
        threads[tid].append(line + " <unfinished ...>) = ?")
    # By their numbers: which of two children is heard of first is up to the scheduler.
    threads = dict(sorted(threads.items(), key=lambda item: int(item[0])))
    names = {tid: f"TID{index}" for index, tid in enumerate(threads)}
    return [[named(line, names) for line in lines] for lines in threads.values()]


#: Calls that have numbers of processes as arguments or results. Elsewhere the same number may be a size.
ABOUT_PROCESSES = re.compile(
    r"(fork|vfork|clone3?|wait4|waitid|t?g?kill|get(pp|p|t|pg|s)id|setp?g?s?id|prlimit64|sched_\w+|rt_\w+|set_tid_address"
    r"|pidfd_\w+|kcmp|process_vm_\w+|[gs]etpriority|capget|capset)\("
)


def named(line: str, names: dict[str, str]) -> str:
    """Replace the numbers of threads by names."""
    if ABOUT_PROCESSES.match(line):
        return re.sub(r"\b\d+\b", lambda number: names.get(number[0], number[0]), line)
    return re.sub(
        r"(\w*(?:pid|tid)=\[?)(\d+)\b", lambda found: found[1] + names.get(found[2], found[2]), line
    )


def normal(line: str) -> str:
    """Without what differs from one run to the next, and with flags in one order."""
    line = re.sub(r"0x[0-9a-f]{5,}", "ADDRESS", line)
    line = re.sub(r"\s+= ", " = ", line)
    line = re.sub(r",\s*", ", ", line)
    line = re.sub(r"\}\s+=>", "} =>", line)
    # What has passed or is left differs, and so does the time of day; what a program asks for does not.
    line = re.sub(r"(left|ru_.time=) ?\{[^}]*\}", r"\1 TIME", line)
    line = re.sub(r"tv_(u|n)?sec=\d{5,}", r"tv_\1sec=N", line)
    line = re.sub(
        r"(get(?:timeofday|itimer)|clock_get\w+|adjtimex|timer\w*_[gs]ettime|setitimer)\((.*)tv_(u|n)?sec=\d+\}",
        r"\1(\2tv_\3sec=N}",
        line,
    )
    line = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+\+\d{4}", "MOMENT", line)
    line = re.sub(r"^time\((.*)\) = \d+", r"time(\1) = N", line)
    line = re.sub(r'getrandom\("[^"]*"', "getrandom(RANDOM", line)
    line = re.sub(r"/tmp/cc\w{6}\b", "/tmp/TEMPORARY", line)
    line = re.sub(r"htons\(\d{5}\)", "htons(PORT)", line)
    line = re.sub(r"[A-Z0-9_]+(\|[A-Z0-9_]+)+", lambda words: "|".join(sorted(words[0].split("|"))), line)
    line = re.sub(r"si_[us]time=\d+( /\* [^*]* \*/)?", "si_time", line)
    line = re.sub(
        r"^(getppid\(\)|getpgrp\(\)|getpgid\(0\)|getsid\(0\)|times\(.*\)) = \d+$", r"\1 = NUMBER", line
    )
    line = re.sub(r"^(sysinfo\(\{).*(\}\) = 0)$", r"\1...\2", line)
    return re.sub(r"f_(bfree|bavail|ffree)=\d+", r"f_\1=N", line)
