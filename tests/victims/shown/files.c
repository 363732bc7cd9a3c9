// Calls on files with the arguments that programs usually give them; made by number, so that no library
// changes them.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#define CALL(name, ...) syscall(SYS_##name, ##__VA_ARGS__)

static char buffer[4096];
static long status[64], mounted[64];

static void names(void)
{
    long fd = CALL(open, "one", O_RDWR | O_CREAT | O_TRUNC, 0644);

    CALL(creat, "two", 0600);
    CALL(mkdir, "folder", 0755);
    CALL(mkdirat, AT_FDCWD, "folder/inner", 0700);
    long folder = CALL(openat, AT_FDCWD, "folder", O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_DIRECTORY);
    CALL(openat, folder, "three", O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW, 0640);
    CALL(openat, folder, ".", O_TMPFILE | O_RDWR, 0600);
    CALL(openat, AT_FDCWD, "/dev/null", O_RDWR | O_DSYNC | O_NOCTTY);
    CALL(openat, AT_FDCWD, "one", O_RDONLY | O_PATH | O_SYNC);
    CALL(openat2, AT_FDCWD, "one",
         &(struct open_how){.flags = O_RDONLY | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS},
         sizeof(struct open_how));
    CALL(openat2, folder, "four", &(struct open_how){.flags = O_WRONLY | O_CREAT, .mode = 0644},
         sizeof(struct open_how));
    CALL(link, "one", "linked");
    CALL(linkat, AT_FDCWD, "one", folder, "linked", 0);
    CALL(linkat, fd, "", AT_FDCWD, "nowhere/x", AT_EMPTY_PATH);
    CALL(symlink, "one", "symbolic");
    CALL(symlinkat, "../one", folder, "symbolic");
    CALL(readlink, "symbolic", buffer, sizeof buffer);
    CALL(readlinkat, folder, "symbolic", buffer, 3);
    CALL(readlink, "one", buffer, sizeof buffer);
    CALL(rename, "linked", "renamed");
    CALL(renameat, AT_FDCWD, "renamed", folder, "renamed");
    CALL(renameat2, folder, "renamed", folder, "three", RENAME_NOREPLACE);
    CALL(unlink, "symbolic");
    CALL(unlinkat, folder, "inner", AT_REMOVEDIR);
    CALL(unlinkat, folder, "inner", 0);
    CALL(rmdir, "folder");
    CALL(access, "one", R_OK | W_OK);
    CALL(access, "one", F_OK);
    CALL(faccessat, AT_FDCWD, "one", X_OK);
    CALL(faccessat2, AT_FDCWD, "one", R_OK, AT_EACCESS);
    CALL(chmod, "one", 0755);
    CALL(fchmod, fd, 04755);
    CALL(fchmodat, AT_FDCWD, "one", 0644);
    CALL(chown, "one", getuid(), getgid());
    CALL(fchown, fd, -1, getgid());
    CALL(lchown, "one", getuid(), -1);
    CALL(fchownat, AT_FDCWD, "one", -1, -1, AT_SYMLINK_NOFOLLOW);
    CALL(umask, 022);
    CALL(chdir, "folder");
    CALL(getcwd, buffer, sizeof buffer);
    CALL(getcwd, buffer, 2);
    CALL(chdir, "..");
    CALL(fchdir, folder);
    CALL(chdir, "..");
    CALL(mknod, "fifo", S_IFIFO | 0644, 0);
    CALL(mknodat, AT_FDCWD, "device", S_IFCHR | 0600, 0x103);
    CALL(chroot, "/nowhere/at/all");
    CALL(truncate, "one", 4096);
}

static void states(void)
{
    long fd = CALL(open, "one", O_RDWR);

    CALL(stat, "one", status);
    CALL(stat, "/dev/null", status);
    CALL(lstat, "/proc/self", status);
    CALL(lstat, "nowhere", status);
    CALL(fstat, fd, status);
    CALL(newfstatat, AT_FDCWD, "one", status, AT_SYMLINK_NOFOLLOW);
    CALL(newfstatat, fd, "", status, AT_EMPTY_PATH);
    CALL(newfstatat, AT_FDCWD, "/", status, 0);
    CALL(statx, AT_FDCWD, "one", AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS, buffer);
    CALL(statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_ALL, buffer);
    CALL(statx, AT_FDCWD, "nowhere", AT_STATX_FORCE_SYNC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
         STATX_TYPE | STATX_MODE | STATX_INO, buffer);
    CALL(statfs, "/proc", mounted);
    CALL(fstatfs, fd, mounted);
    CALL(utime, "one", &(struct utimbuf){1000000000, 1000000001});
    CALL(utimes, "one", (struct timeval[]){{1000000000, 5}, {1000000001, 6}});
    CALL(futimesat, AT_FDCWD, "one", (struct timeval[]){{1000000000, 5}, {1000000001, 6}});
    CALL(utimensat, AT_FDCWD, "one", (struct timespec[]){{0, UTIME_NOW}, {0, UTIME_OMIT}}, 0);
    CALL(utimensat, AT_FDCWD, "one", (struct timespec[]){{1000000000, 7}, {1000000001, 8}},
         AT_SYMLINK_NOFOLLOW);
    CALL(utimensat, fd, NULL, NULL, 0);
    CALL(setxattr, "one", "user.trapline", "value", 5, XATTR_CREATE);
    CALL(getxattr, "one", "user.trapline", buffer, 64);
    CALL(lgetxattr, "one", "user.nothing", buffer, 64);
    CALL(fgetxattr, fd, "user.trapline", NULL, 0);
    CALL(listxattr, "one", buffer, 64);
    CALL(removexattr, "one", "user.trapline");
}

static void transfers(void)
{
    long fd = CALL(open, "one", O_RDWR | O_TRUNC), other = CALL(open, "two", O_RDWR);
    struct iovec out[] = {{"ab\n\0", 4}, {"a much longer piece of text than any that is shown", 50}},
                 in[] = {{buffer, 3}, {buffer + 100, 3000}};
    long at = 4;

    CALL(write, fd, "hello\t\"quoted\" \\ \1\0017\377", 22);
    CALL(write, fd, "", 0);
    CALL(write, 77, "nobody", 6);
    CALL(pwrite64, fd, "at an offset", 12, 100);
    CALL(writev, fd, out, 2);
    CALL(pwritev, fd, out, 2, 1000L, 0L);
    CALL(pwritev2, fd, out, 2, 1000L, 0L, 0);
    CALL(lseek, fd, 0L, SEEK_SET);
    CALL(lseek, fd, -2L, SEEK_END);
    CALL(lseek, fd, 1L, SEEK_CUR);
    CALL(lseek, fd, 0L, SEEK_DATA);
    CALL(lseek, fd, 0L, SEEK_HOLE);
    CALL(read, fd, buffer, 5);
    CALL(pread64, fd, buffer, sizeof buffer, 0L);
    CALL(readv, fd, in, 2);
    CALL(preadv, fd, in, 2, 2L, 0L);
    CALL(preadv2, fd, in, 2, 2L, 0L, 0);
    CALL(read, fd, buffer, 5);
    CALL(read, 77, buffer, 5);
    CALL(sendfile, other, fd, &at, 10);
    CALL(sendfile, other, fd, NULL, 10);
    CALL(copy_file_range, fd, &at, other, NULL, 10, 0);
    CALL(ftruncate, fd, 100L);
    CALL(fallocate, fd, 0, 0L, 4096L);
    CALL(fallocate, fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0L, 100L);
    CALL(fadvise64, fd, 0L, 0L, POSIX_FADV_SEQUENTIAL);
    CALL(readahead, fd, 0L, 100);
    CALL(sync_file_range, fd, 0L, 0L, SYNC_FILE_RANGE_WRITE);
    CALL(fsync, fd);
    CALL(fdatasync, fd);
    CALL(flock, fd, LOCK_EX | LOCK_NB);
    CALL(flock, fd, LOCK_UN);
}

static void descriptors(void)
{
    long fd = CALL(open, "one", O_RDWR);
    int pair[2];

    CALL(dup, fd);
    CALL(dup2, fd, 40);
    CALL(dup3, fd, 41, O_CLOEXEC);
    CALL(fcntl, fd, F_DUPFD, 50);
    CALL(fcntl, fd, F_DUPFD_CLOEXEC, 60);
    CALL(fcntl, fd, F_GETFD);
    CALL(fcntl, fd, F_SETFD, FD_CLOEXEC);
    CALL(fcntl, fd, F_GETFD);
    CALL(fcntl, fd, F_GETFL);
    CALL(fcntl, fd, F_SETFL, O_RDONLY | O_NONBLOCK | O_APPEND);
    CALL(fcntl, fd, F_GETFL);
    CALL(fcntl, fd, F_SETLK, &(struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10});
    CALL(fcntl, fd, F_GETLK, &(struct flock){.l_type = F_RDLCK, .l_whence = SEEK_CUR, .l_start = 3});
    CALL(fcntl, fd, F_SETLKW, &(struct flock){.l_type = F_UNLCK, .l_whence = SEEK_END, .l_start = -3});
    CALL(fcntl, fd, F_OFD_SETLK, &(struct flock){.l_type = F_RDLCK});
    CALL(fcntl, fd, F_SETOWN, 0);
    CALL(fcntl, fd, F_GETOWN);
    CALL(fcntl, fd, F_SETSIG, 10);
    CALL(fcntl, fd, F_GETSIG);
    CALL(fcntl, fd, F_SETLEASE, F_RDLCK);
    CALL(fcntl, fd, F_GETLEASE);
    CALL(fcntl, fd, F_NOTIFY, 0);
    CALL(fcntl, 77, F_GETFD);
    CALL(pipe, pair);
    CALL(fcntl, pair[0], F_SETPIPE_SZ, 4096);
    CALL(fcntl, pair[0], F_GETPIPE_SZ);
    CALL(pipe2, pair, O_CLOEXEC | O_NONBLOCK);
    CALL(splice, fd, NULL, pair[1], NULL, 5, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    CALL(tee, pair[0], pair[1], 5, SPLICE_F_NONBLOCK);
    CALL(vmsplice, pair[1], &(struct iovec){"abc", 3}, 1, 0);
    long memory = CALL(memfd_create, "memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CALL(fcntl, memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE);
    CALL(fcntl, memory, F_GET_SEALS);
    long watch = CALL(inotify_init1, IN_NONBLOCK | IN_CLOEXEC);
    CALL(inotify_add_watch, watch, ".", IN_MODIFY | IN_CREATE | IN_DELETE);
    CALL(inotify_rm_watch, watch, 1);
    CALL(close_range, 100, ~0U, 0);
    CALL(close_range, 100, 200, CLOSE_RANGE_CLOEXEC);
    CALL(close, 41);
    CALL(close, 41);
    long folder = CALL(open, "folder", O_RDONLY | O_DIRECTORY);
    CALL(getdents64, folder, buffer, sizeof buffer);
    CALL(getdents64, folder, buffer, sizeof buffer);
    CALL(getdents, folder, buffer, sizeof buffer);
}

int main(void)
{
    names();
    states();
    transfers();
    descriptors();
    CALL(sync);
    CALL(exit_group, 0);
}
