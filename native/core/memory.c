#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

// /proc/PID/mem goes through page protection, as a debugger wants and a system call never does.
static bool is_permitted(pid_t tid, uint64_t address, size_t size, bool write)
{
    char line[512];
    uint64_t end = address + size;

    snprintf(line, sizeof line, "/proc/%d/maps", tid);
    FILE *maps = fopen(line, "re");
    if (!maps)
        return false;
    while (address < end && fgets(line, sizeof line, maps)) {
        unsigned long long low, high;
        char mode[5];
        if (sscanf(line, "%llx-%llx %4s", &low, &high, mode) != 3 || address >= high)
            continue;
        if (address < low || (write ? mode[1] != 'w' : mode[0] != 'r'))
            break;
        address = high;
    }
    fclose(maps);
    return address >= end;
}

// Containers often refuse process_vm_readv while /proc works. The file is opened afresh each time: one that
// was kept open over an execve reads 0 bytes.
static int transfer_by_file(pid_t tid, uint64_t address, void *buffer, size_t size, bool write, size_t *done)
{
    char name[64];

    snprintf(name, sizeof name, "/proc/%d/mem", tid);
    int fd = open(name, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? ESRCH : errno == EACCES ? EPERM : errno;
    int error = 0;
    while (*done < size) {
        char *at = (char *)buffer + *done;
        uint64_t from = address + *done;
        size_t piece = 4096 - (from & 4095) < size - *done ? 4096 - (from & 4095) : size - *done;
        ssize_t got = -1;
        errno = EFAULT;
        if (is_permitted(tid, from, piece, write))
            got = write ? pwrite(fd, at, piece, (off_t)from) : pread(fd, at, piece, (off_t)from);
        if (got <= 0) {
            error = *done ? 0 : got < 0 && errno != EIO && errno != EINVAL ? errno : EFAULT;
            break;
        }
        *done += (size_t)got;
    }
    close(fd);
    return error;
}

static bool is_refused(int error)
{
    return error == EPERM || error == ENOSYS || error == EACCES;
}

int tl_memory_read(pid_t tid, uint64_t address, void *buffer, size_t size, size_t *done)
{
    *done = 0;
    while (*done < size) {
        struct iovec local = {(char *)buffer + *done, size - *done};
        struct iovec remote = {(void *)(uintptr_t)(address + *done), size - *done};
        ssize_t got = process_vm_readv(tid, &local, 1, &remote, 1, 0);
        if (got <= 0) {
            int error = got < 0 ? errno : EFAULT;
            if (is_refused(error))
                return transfer_by_file(tid, address, buffer, size, false, done);
            return *done && error == EFAULT ? 0 : error;
        }
        *done += (size_t)got;
    }
    return 0;
}

int tl_memory_write(pid_t tid, uint64_t address, const void *buffer, size_t size, size_t *done)
{
    *done = 0;
    while (*done < size) {
        struct iovec local = {(char *)(uintptr_t)buffer + *done, size - *done};
        struct iovec remote = {(void *)(uintptr_t)(address + *done), size - *done};
        ssize_t got = process_vm_writev(tid, &local, 1, &remote, 1, 0);
        if (got <= 0) {
            int error = got < 0 ? errno : EFAULT;
            if (is_refused(error))
                return transfer_by_file(tid, address, (void *)(uintptr_t)buffer, size, true, done);
            return *done && error == EFAULT ? 0 : error;
        }
        *done += (size_t)got;
    }
    return 0;
}

int tl_memory_read_string(pid_t tid, uint64_t address, char *buffer, size_t size, size_t *length)
{
    // Most strings are short: ask for little first, and never for more than to the end of a page.
    size_t ask = 256, have = 0;

    while (have < size) {
        size_t to_page_end = 4096 - ((address + have) & 4095);
        size_t want = ask < to_page_end ? ask : to_page_end;
        if (want > size - have)
            want = size - have;
        size_t got;
        int error = tl_memory_read(tid, address + have, buffer + have, want, &got);
        if (error)
            return error;
        char *nul = memchr(buffer + have, 0, got);
        if (nul) {
            *length = (size_t)(nul - buffer);
            return 0;
        }
        if (got < want)
            return EFAULT;
        have += got;
        ask = 4096;
    }
    *length = size;
    return ENAMETOOLONG;
}
