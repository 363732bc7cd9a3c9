// Lists of descriptors, /proc/PID/fd and fdinfo, without the agent's two: programs close what they find
// there, and some do so until nothing is left.
#include "inside.h"

#include <asm/unistd.h>

enum {
    proc_magic = 0x9fa0,
    length_at = 16, // in an entry: its length in 2 bytes, its type in one, its name
    name_at = 19,
    longest_number = 11,
};

static bool is_of_proc(int fd)
{
    int64_t status[16]; // the kernel's struct statfs

    return tl_call3(__NR_fstatfs, fd, (long)status, 0) == 0 && status[0] == proc_magic;
}

static bool is_number(const char *name, int32_t number)
{
    char digits[longest_number + 1];
    unsigned at = longest_number;

    digits[at] = 0;
    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10));
    return __builtin_memcmp(name, digits + at, longest_number + 1 - at) == 0;
}

// Moves what follows an entry to where it is.
static bool move_down(uint64_t to, uint64_t from, uint64_t end)
{
    uint8_t some[512];

    while (from < end) {
        size_t size = end - from < sizeof some ? end - from : sizeof some;
        if (!tl_read(some, from, size) || !tl_write(to, some, size))
            return false;
        from += size;
        to += size;
    }
    return true;
}

long tl_call_getdents64(struct tl_thread *thread)
{
    struct {
        uint64_t inode, offset;
        uint16_t length;
        uint8_t type;
        char name[longest_number + 2];
    } __attribute__((packed)) entry;
    uint64_t at, end;
    long result;

    do {
        result = tl_perform(thread);
        if (result <= 0 || thread->aborted || !is_of_proc((int)thread->args[0]))
            return result;
        end = thread->args[1] + (uint64_t)result;
        for (at = thread->args[1]; at + name_at < end; at += entry.length) {
            size_t size = end - at < sizeof entry ? end - at : sizeof entry;
            entry.length = 0;
            if (!tl_read(&entry, at, size) || !entry.length)
                return result;
            if (is_number(entry.name, tl_process.start.socket_fd) ||
                is_number(entry.name, tl_process.start.memory_fd)) {
                if (!move_down(at, at + entry.length, end))
                    return result;
                end -= entry.length;
                entry.length = 0;
            }
        }
        result = (long)(end - thread->args[1]);
    } while (!result); // nothing would mean that it is all
    return result;
}
