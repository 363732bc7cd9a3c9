// Descriptors that are this process's own. A program that is executed does not have what is closed on exec,
// so a guest that closes whatever it finds, as daemons do, does not have them either.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"
#include "rawcall.h"

enum { kept_max = 4096, first_kept = 3, UNSHARE = 2 };
enum { I386_CLOSE = 6, I386_DUP2 = 63, I386_DUP3 = 330 };

// What each number was when it was kept: the number may be somebody else's by now. No inode is 0.
static struct {
    dev_t device;
    ino_t inode;
} kept[kept_max];

void tl_guest_keep(int fd)
{
    struct stat status;

    if (fd < 0 || fd >= kept_max || fstat(fd, &status))
        return;
    kept[fd].device = status.st_dev;
    __atomic_store_n(&kept[fd].inode, status.st_ino, __ATOMIC_RELEASE);
}

void tl_guest_keep_all(void)
{
    DIR *folder = opendir("/proc/thread-self/fd");
    const struct dirent *entry;

    while (folder && (entry = readdir(folder))) {
        int fd = (int)strtol(entry->d_name, NULL, 10), flags;
        if (fd >= first_kept && fd != dirfd(folder) && (flags = fcntl(fd, F_GETFD)) >= 0 &&
            flags & FD_CLOEXEC)
            tl_guest_keep(fd);
    }
    if (folder)
        closedir(folder);
}

static bool keeps(const struct tl_guest *guest, uint64_t number)
{
    unsigned fd = (unsigned)number;
    struct stat status;

    if (fd < guest->kept_from || fd >= kept_max || !__atomic_load_n(&kept[fd].inode, __ATOMIC_ACQUIRE))
        return false;
    // The guest's vector registers are in place: no libc here.
    if (!tl_rawcall(__NR_fstat, fd, (long)&status, 0, 0, 0, 0) && status.st_dev == kept[fd].device &&
        status.st_ino == kept[fd].inode)
        return true;
    kept[fd].inode = 0;
    return false;
}

static int64_t close_range_but(const struct tl_guest *guest, unsigned first, unsigned last, unsigned flags)
{
    if (flags & UNSHARE)
        return -EINVAL; // it would be this thread's table
    if (first > last)
        return tl_rawcall(__NR_close_range, first, last, (long)flags, 0, 0, 0);
    for (unsigned fd = first; fd <= last && fd < kept_max; fd++) {
        if (!keeps(guest, fd))
            continue;
        int64_t result = fd > first ? tl_rawcall(__NR_close_range, first, fd - 1, (long)flags, 0, 0, 0) : 0;
        if (result < 0 || fd == last)
            return result;
        first = fd + 1;
    }
    return tl_rawcall(__NR_close_range, first, last, (long)flags, 0, 0, 0);
}

bool tl_guest_closes(uint32_t arch, int64_t nr)
{
    if (nr == __NR_close_range)
        return true; // on both
    if (arch == AUDIT_ARCH_I386)
        return nr == I386_CLOSE || nr == I386_DUP2 || nr == I386_DUP3;
    return nr == __NR_close || nr == __NR_dup2 || nr == __NR_dup3;
}

bool tl_guest_spare(const struct tl_guest_thread *thread, int64_t *result)
{
    const uint64_t *args = thread->args;

    if (!tl_guest_closes(thread->arch, thread->nr))
        return false;
    if (thread->nr == __NR_close_range) {
        *result = close_range_but(thread->guest, (unsigned)args[0], (unsigned)args[1], (unsigned)args[2]);
        return true;
    }
    bool is_close = thread->nr == (thread->arch == AUDIT_ARCH_I386 ? I386_CLOSE : __NR_close);
    *result = is_close ? -EBADF : -EBUSY;
    return keeps(thread->guest, args[!is_close]);
}
