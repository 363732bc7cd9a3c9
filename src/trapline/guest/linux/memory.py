"""Memory of a Linux guest: all of it in the arena."""

from __future__ import annotations

import os

from trapline import _native
from trapline.guest.arena import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    PAGE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    pages,
)
from trapline.guest.personality import Personality, does

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.call import Call
    from trapline.guest.arena import Area
    from trapline.guest.guest import Guest
    from trapline.guest.loader import Program
    from trapline.guest.thread import Thread

__all__ = ["Memory"]

_EINVAL, _ENOMEM, _EEXIST, _EFAULT = 22, 12, 17, 14
_MAP_32BIT, _MAP_GROWSDOWN, _MAP_HUGETLB, _MAP_HUGE_SHIFT, _HUGE = 0x40, 0x100, 0x40000, 26, 21
_PROT_MASK = 7
_PROT_SEM, _PROT_GROWSDOWN, _PROT_GROWS = 8, 0x01000000, 0x03000000
_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
_MREMAP = 25
_TASK_END = (1 << 47) - PAGE
_LOW_LIMIT = 1 << 31
_SHMAT = 30
_SHM_RDONLY, _SHM_RND, _SHM_REMAP, _SHM_EXEC = 0o10000, 0o20000, 0o40000, 0o100000


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Memory(Personality):
    """brk, mmap and their kin."""

    def begin(self, guest: Guest) -> None:
        """Belong to a guest."""
        super().begin(guest)
        self._brk_start = self._brk = 0
        self._attached: dict[int, int] = {}

    def loaded(self, program: Program) -> None:
        """Have the heap begin behind a program."""
        super().loaded(program)
        self._brk_start = self._brk = program.end

    @does("brk")
    def do_brk(self, thread: Thread, call: Call) -> int:
        with self.arena.lock:
            wanted = call.raw[0]
            if not self._brk_start:
                self._brk_start = self._brk = self.arena.gap(1 << 30)
            if wanted < self._brk_start or wanted > self.arena.end:
                return self._brk
            old, new = pages(self._brk), pages(wanted)
            if new > old:
                if self.arena.overlapping(old, new):
                    return self._brk
                try:
                    self.arena.map(new - old, PROT_READ | PROT_WRITE, at=old, name="heap")
                except OSError:
                    return self._brk
            elif new < old:
                self.arena.free(new, old - new)
            self._brk = wanted
            return wanted

    @does("mmap")
    def do_mmap(self, thread: Thread, call: Call) -> int:
        with self.arena.lock:
            address, size, bits, flags, fd, offset = call.raw
            bits &= _PROT_MASK
            flags &= 0xFFFFFFFF
            if size == 0 or offset % PAGE:
                raise _error(_EINVAL)
            unit = 1 << (flags >> _MAP_HUGE_SHIFT & 63 or _HUGE) if flags & _MAP_HUGETLB else PAGE
            size = -(-size // unit) * unit
            if size > _TASK_END:
                raise _error(_ENOMEM)
            arena = self.arena
            at = self._choose(address, size, flags, unit)
            fd = -1 if flags & MAP_ANONYMOUS else _int(fd)
            name = "" if fd < 0 else _name_of(fd)
            flags &= ~(MAP_FIXED | MAP_FIXED_NOREPLACE | _MAP_32BIT | _MAP_GROWSDOWN)
            return arena.map(size, bits, at=at, fd=fd, offset=offset, flags=flags, name=name)

    def _choose(self, address: int, size: int, flags: int, unit: int) -> int:
        arena = self.arena
        if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
            if address % PAGE:
                raise _error(_EINVAL)
            if address < arena.start or address + size > arena.end:
                raise _error(_ENOMEM)
            if flags & MAP_FIXED_NOREPLACE and arena.overlapping(address, address + size):
                raise _error(_EEXIST)
            return address
        if flags & _MAP_32BIT:
            if arena.start >= _LOW_LIMIT:
                raise _error(_ENOMEM)
            return arena.gap(size, high=min(arena.end, _LOW_LIMIT))
        if unit > PAGE:
            return (arena.gap(size + unit - PAGE) + unit - PAGE) & -unit
        return arena.gap(size, address & -PAGE if address else None)

    @does("munmap")
    def do_munmap(self, thread: Thread, call: Call) -> int:
        with self.arena.lock:
            address, size = call.raw[:2]
            if address % PAGE or size == 0 or address + size > _TASK_END:
                raise _error(_EINVAL)
            low, high = max(address, self.arena.start), min(address + pages(size), self.arena.end)
            if low < high:
                for area in self.arena.overlapping(low, high):
                    start, end = max(area.start, low), min(area.end, high)
                    self.arena.free(start, end - start)
            return 0

    @does("mprotect")
    def do_mprotect(self, thread: Thread, call: Call) -> int:
        address, size, bits = call.raw[:3]
        grows = bits & _PROT_GROWS
        if grows == _PROT_GROWS or address % PAGE:
            raise _error(_EINVAL)
        if not size:
            return 0
        end = address + pages(size)
        if end > 1 << 64:
            raise _error(_ENOMEM)
        if bits & ~(_PROT_MASK | _PROT_SEM | _PROT_GROWS):
            raise _error(_EINVAL)
        with self.arena.lock:
            first = self.arena.find(address)
            if first is None:
                raise _error(_ENOMEM)
            if grows:
                if first.name != "stack" or grows != _PROT_GROWSDOWN:
                    raise _error(_EINVAL)
                address = first.start
            mapped = address
            for area in self.arena.overlapping(address, end):
                if area.start > mapped:
                    break
                mapped = min(area.end, end)
            # As the kernel does it: up to the first hole.
            self.arena.protect(address, mapped - address, bits & _PROT_MASK)
            if mapped < end:
                raise _error(_ENOMEM)
        return 0

    @does("pkey_mprotect")
    def do_pkey_mprotect(self, thread: Thread, call: Call) -> int:
        if _int(call.raw[3]) != -1:
            raise _error(_EINVAL)
        return self.do_mprotect(thread, call)

    @does("mremap")
    def do_mremap(self, thread: Thread, call: Call) -> int:
        with self.arena.lock:
            address, old_size, new_size, flags, wanted = call.raw[:5]
            old_size, new_size = pages(old_size), pages(new_size)
            arena = self.arena
            area = arena.find(address)
            fixed = flags & _MREMAP_FIXED
            if flags & ~(_MREMAP_MAYMOVE | _MREMAP_FIXED) or (fixed and not flags & _MREMAP_MAYMOVE):
                raise _error(_EINVAL)
            if address % PAGE or not 0 < new_size <= _TASK_END:
                raise _error(_EINVAL)
            if fixed:
                if wanted % PAGE or wanted < arena.start or wanted + new_size > arena.end:
                    raise _error(_EINVAL)
                if address < wanted + new_size and wanted < address + old_size:
                    raise _error(_EINVAL)
            if area is None:
                raise _error(_EFAULT)
            if not fixed and 0 < new_size <= old_size:
                low, high = address + new_size, min(address + old_size, arena.end)
                if low < high:
                    arena.free(low, high - low)
                return address
            if area.end < address + old_size:
                raise _error(_EFAULT)
            if not old_size:
                return self._double(area, address, new_size, flags, wanted)
            if not fixed:
                end = address + new_size
                if end <= arena.end and not arena.overlapping(address + old_size, end):
                    _native.memory_grow(address, old_size, new_size)
                    arena.note(address + old_size, new_size - old_size, area.protection, area.name)
                    return address
                if not flags & _MREMAP_MAYMOVE:
                    raise _error(_ENOMEM)
                wanted = arena.gap(new_size)
            bits, name = area.protection, area.name
            arena.leave(wanted, new_size)
            _native.memory_move(address, old_size, new_size, wanted)
            arena.free(address, old_size)
            arena.note(wanted, new_size, bits, name)
            return wanted

    def _double(self, area: Area, address: int, size: int, flags: int, wanted: int) -> int:
        """Map shared memory once more, as mremap does with an old size of 0."""
        if not flags & _MREMAP_FIXED:
            if not flags & _MREMAP_MAYMOVE:
                raise _error(_ENOMEM)
            wanted = self.arena.gap(size)
        self.arena.leave(wanted, size)
        bits, name = area.protection, area.name
        got = _native.system_call(_MREMAP, address, 0, size, _MREMAP_MAYMOVE | _MREMAP_FIXED, wanted)
        if got < 0:
            raise _error(-got)
        self.arena.note(wanted, size, bits, name)
        return wanted

    @does("shmat")
    def do_shmat(self, thread: Thread, call: Call) -> int:
        number, address, flags = call.raw[0] & 0xFFFFFFFF, call.raw[1], call.raw[2] & 0xFFFFFFFF
        if address and flags & _SHM_RND:
            address &= -PAGE
        if address % PAGE:
            raise _error(_EINVAL)
        with self.arena.lock:
            size = pages(_native.shared_memory_size(number))
            at = address or self.arena.gap(size)
            if at < self.arena.start or at + size > self.arena.end:
                raise _error(_EINVAL)
            if not flags & _SHM_REMAP and self.arena.overlapping(at, at + size):
                raise _error(_EINVAL)
            self.arena.leave(at, size)
            got = _native.system_call(_SHMAT, number, at, flags & ~_SHM_RND | _SHM_REMAP)
            if got < 0:
                raise _error(-got)
            bits = PROT_READ | (0 if flags & _SHM_RDONLY else PROT_WRITE)
            self.arena.note(at, size, bits | (PROT_EXEC if flags & _SHM_EXEC else 0), f"SYSV{number:08x}")
            self._attached[at] = size
            return at

    @does("shmdt")
    def do_shmdt(self, thread: Thread, call: Call) -> int:
        with self.arena.lock:
            size = self._attached.pop(call.raw[0], None)
            if size is None:
                raise _error(_EINVAL)
            self.arena.free(call.raw[0], size)
            return 0

    @does("remap_file_pages", "userfaultfd", "map_shadow_stack", "mseal")
    def do_not(self, thread: Thread, call: Call) -> int:
        raise _error(38)


def _int(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _name_of(fd: int) -> str:
    try:
        return os.path.basename(os.readlink(f"/proc/thread-self/fd/{fd}"))
    except OSError:
        return ""
