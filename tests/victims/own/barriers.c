// Barriers for which a process must have registered: nobody else has done it for the program.

#include <linux/membarrier.h>

#include "exact.h"

enum { GET_REGISTRATIONS = 512 };

static void try_it(int line, long expected)
{
    if (call(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0) != expected)
        failed(line, "SYNC_CORE", " is not %ld", expected);
}

int main(void)
{
    long all = call(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0);

    for (int i = 0; i < 100 * HOT; i++)
        call(SYS_getppid);
    for (int i = 0; i < HOT; i++)
        try_it(__LINE__, -EPERM);
    same(call(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0), -EPERM);
    if (all & GET_REGISTRATIONS)
        same(call(SYS_membarrier, GET_REGISTRATIONS, 0), 0);
    pid_t child = fork();
    if (child == 0) {
        try_it(__LINE__, -EPERM);
        same(call(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0), 0);
        try_it(__LINE__, 0);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            try_it(__LINE__, 0);
            _exit(failures != 0);
        }
        same(ended(grandchild), 0);
        if (all & GET_REGISTRATIONS)
            same(call(SYS_membarrier, GET_REGISTRATIONS, 0),
                 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE |
                     MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
        _exit(failures != 0);
    }
    same(ended(child), 0);
    try_it(__LINE__, -EPERM);
    same(call(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 77), -EINVAL);
    return finish();
}
