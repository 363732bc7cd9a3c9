// Closes what /proc/self/fd lists until it lists nothing any more, as daemons do.

#include <dirent.h>

#include "exact.h"

enum { ROUNDS = 50 };

static int close_first(int keep)
{
    DIR *list = opendir("/proc/self/fd");
    struct dirent *entry;
    int found = 0;

    while (list && (entry = readdir(list))) {
        int fd = entry->d_name[0] == '.' ? -1 : atoi(entry->d_name);
        if (fd < 0 || fd == dirfd(list) || fd == keep)
            continue;
        found++;
        close(fd);
    }
    closedir(list);
    return found;
}

int main(void)
{
    int rounds = 0;
    int out = dup(1);

    while (close_first(out) && rounds < ROUNDS)
        rounds++;
    check(rounds < ROUNDS);
    dprintf(out, "%d\n", rounds);
    return rounds == ROUNDS;
}
