// The plain C supervisor that a Python hook is measured against: one thread, one listener, nothing else.
// usage: c_supervisor getppid|openat|reply_fd|allow COMMAND [ARG...]
//   getppid  answers getppid with 1
//   openat   reads the path, asks ID_VALID, lets the kernel go on
//   reply_fd like openat, but answers for /dev/null with a descriptor of its own, installed in one step
//   allow    no listener: a filter that allows every call by looking at nothing
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS _IOW(SECCOMP_IOC_MAGIC, 4, __u64)
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

static int install(unsigned nr)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog listening = {4, code}, allowing = {1, allow};

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!nr)
        return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &allowing);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                        SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
                        &listening);
}

static void pass_fd(int channel, int fd)
{
    char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    sendmsg(channel, &message, 0);
}

static int take_fd(int channel)
{
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int fd = -1;

    if (recvmsg(channel, &message, 0) > 0)
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void serve(int listener, int reads_path, int null)
{
    struct seccomp_notif call;
    struct seccomp_notif_resp answer;
    struct seccomp_notif_addfd added;

    ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1UL);
    for (;;) {
        memset(&call, 0, sizeof call);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0) {
            if (errno == EINTR)
                continue;
            return;
        }
        memset(&answer, 0, sizeof answer);
        answer.id = call.id;
        if (reads_path) {
            char path[256];
            struct iovec local = {path, sizeof path}, remote = {(void *)call.data.args[1], sizeof path};
            if (process_vm_readv((pid_t)call.pid, &local, 1, &remote, 1, 0) < 0 ||
                ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &call.id) < 0)
                continue;
            if (null >= 0 && !strcmp(path, "/dev/null")) {
                memset(&added, 0, sizeof added);
                added.id = call.id;
                added.flags = SECCOMP_ADDFD_FLAG_SEND;
                added.srcfd = (__u32)null;
                ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &added);
                continue;
            }
            answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        } else {
            answer.val = 1;
        }
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}

int main(int argc, char **argv)
{
    int pair[2], status;

    if (argc < 3 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        fprintf(stderr, "usage: %s getppid|openat|reply_fd|allow COMMAND [ARG...]\n", argv[0]);
        return 2;
    }
    int replies_fd = !strcmp(argv[1], "reply_fd");
    unsigned nr = !strcmp(argv[1], "getppid")                ? SYS_getppid
                  : replies_fd || !strcmp(argv[1], "openat") ? SYS_openat
                                                             : 0;
    pid_t pid = fork();
    if (pid == 0) {
        int listener = install(nr);
        if (nr)
            pass_fd(pair[1], listener);
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    close(pair[1]);
    if (nr)
        serve(take_fd(pair[0]), nr == SYS_openat, replies_fd ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
