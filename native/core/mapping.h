// What is mapped at an address of another process.
#ifndef TL_MAPPING_H
#define TL_MAPPING_H

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

struct tl_mapping {
    uint64_t start, end; // end: behind its last byte
    uint64_t flags;      // bits of the kernel's PROCMAP_QUERY: 1 readable, 2 writable, 4 executable, 8 shared
    uint64_t offset;     // of the file, at start
    uint64_t inode;      // 0: no file
    uint32_t major, minor;
    char path[PATH_MAX]; // as this process sees it; a name in brackets, or empty
};

// 0 or an errno: ESRCH: there is no such process; ENOENT: nothing is mapped there; ENOTTY or EINVAL: the
// kernel has no such query (before 6.11).
int tl_mapping_find(pid_t pid, uint64_t address, struct tl_mapping *mapping);

#endif
