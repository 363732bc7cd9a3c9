#include "mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

// struct procmap_query of <linux/fs.h>, which older headers do not have.
struct query {
    uint64_t size, query_flags, address;
    uint64_t start, end, flags, page_size, offset, inode;
    uint32_t major, minor, name_size, build_id_size;
    uint64_t name, build_id;
};

#define QUERY _IOWR('f', 17, struct query)

int tl_mapping_find(pid_t pid, uint64_t address, struct tl_mapping *mapping)
{
    struct query query = {.size = sizeof query,
                          .address = address,
                          .name_size = sizeof mapping->path,
                          .name = (uint64_t)(uintptr_t)mapping->path};
    char path[32];

    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? ESRCH : errno;
    int error = ioctl(fd, QUERY, &query) < 0 ? errno : 0;
    close(fd);
    if (error)
        return error;
    mapping->start = query.start;
    mapping->end = query.end;
    mapping->flags = query.flags;
    mapping->offset = query.offset;
    mapping->inode = query.inode;
    mapping->major = query.major;
    mapping->minor = query.minor;
    if (!query.name_size)
        mapping->path[0] = '\0';
    return 0;
}
