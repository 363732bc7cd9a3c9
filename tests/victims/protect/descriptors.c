// Whatever the program does to descriptors: it closes all that it has and has not, puts its own over every
// number, asks about every number, runs out of them, lowers its limit. Calls go on as before.
//
// Prints what getppid returns in the end, so that a rule for it shows whether anybody still looks.

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "exact.h"

enum { FIRST = 3, LAST = 1100 };

static void go_on(void)
{
    long expected = getppid();

    for (int i = 0; i < HOT / 4; i++)
        same(call(SYS_getppid), expected);
    pid_t child = fork();
    if (child == 0)
        call(SYS_exit_group, call(SYS_getppid) > 0 ? 8 : 9);
    same(ended(child), 8);
}

static void close_each(void)
{
    for (int fd = FIRST; fd < LAST; fd++)
        same(call(SYS_close, fd), -EBADF);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = (int)limit.rlim_cur - 300; fd < (int)limit.rlim_cur + 10; fd++)
        same(call(SYS_close, fd), -EBADF);
}

static void ask_each(void)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = FIRST; fd < (int)limit.rlim_cur && fd < 70000; fd++) {
        struct stat status;
        if (call(SYS_fcntl, fd, F_GETFD) != -EBADF || call(SYS_ioctl, fd, FIOCLEX) != -EBADF ||
            call(SYS_fstat, fd, &status) != -EBADF || call(SYS_newfstatat, fd, ".", &status, 0) != -EBADF ||
            call(SYS_newfstatat, fd, "", &status, AT_EMPTY_PATH) != -EBADF)
            failed(__LINE__, "descriptor", " %d is open", fd);
        same(call(SYS_newfstatat, fd, "/", &status, 0), 0);
    }
}

static void replace_each(void)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    int null = open("/dev/null", O_RDWR), last = (int)limit.rlim_cur;
    check(null == FIRST);
    for (int fd = FIRST + 1; fd < LAST && fd < last; fd++)
        same(call(SYS_dup2, null, fd), fd);
    go_on();
    // What is there is the program's: it reads and writes.
    for (int fd = FIRST; fd < LAST && fd < last; fd++) {
        char byte;
        same(call(SYS_write, fd, "x", 1), 1);
        same(call(SYS_read, fd, &byte, 1), 0);
        same(call(SYS_fcntl, fd, F_GETFD), 0);
    }
    for (int fd = last - 300; fd < last; fd++)
        same(call(SYS_dup3, null, fd, O_CLOEXEC), fd);
    for (int fd = last - 300; fd < last; fd++)
        same(call(SYS_write, fd, "x", 1), 1);
    go_on();
    same(call(SYS_fcntl, null, F_DUPFD, last), -EINVAL);
    for (int fd = last; fd < last + 3; fd++)
        same(call(SYS_dup2, null, fd), -EBADF);
    go_on();
    same(call(SYS_close_range, FIRST, ~0u, 0), 0);
}

static void ranges(void)
{
    check(open("/dev/null", O_RDONLY) == FIRST);
    same(call(SYS_close_range, FIRST, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */), 0);
    same(fcntl(FIRST, F_GETFD), FD_CLOEXEC);
    same(call(SYS_close_range, FIRST, ~0u, 0), 0);
    same(fcntl(FIRST, F_GETFD), -1);
    go_on();
    check(open("/dev/null", O_RDONLY) == FIRST);
    same(call(SYS_close_range, FIRST, ~0u, 2 /* CLOSE_RANGE_UNSHARE */), 0);
    go_on();
    same(call(SYS_close_range, 10, 5, 0), -EINVAL);
    same(call(SYS_close_range, 10, 15, 77), -EINVAL);
    closefrom(FIRST);
    go_on();
}

static void run_out(long limit)
{
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)limit, (rlim_t)limit});
    long count = 0;
    while (open("/dev/null", O_RDONLY) >= 0)
        count++;
    same(count, limit - FIRST);
    same(errno, EMFILE);
    go_on();
    closefrom(FIRST);
}

int main(int argc, char **argv __attribute__((unused)))
{
    if (argc > 1) { // everything was closed for this
        ask_each();
        printf("%d\n", call(SYS_getppid) == getppid());
        return finish();
    }
    closefrom(FIRST); // natively nobody knows what was inherited
    go_on();
    ask_each();
    close_each();
    go_on();
    ranges();
    replace_each();
    go_on();
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur <= 32768 && limit.rlim_cur < limit.rlim_max)
        run_out((long)limit.rlim_cur);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){500, 4096});
    replace_each();
    run_out(100);
    run_out(20);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close_range(3, ~0u, 0);
        execl("/proc/self/exe", "descriptors", "again", NULL);
        _exit(3);
    }
    same(ended(child), 0);
    run_out(3);
    fputs(failures ? "FAILED\n" : "ok\n", stdout);
    printf("%ld\n", call(SYS_getppid));
    return failures != 0;
}
