// The program has a user notification listener of its own and answers its child's calls.

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "exact.h"

int main(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    int ready[2];

    // The listener is known by its number: the child opens it and says which.
    if (pipe(ready))
        return 1;
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        prctl(0x59616d61 /* PR_SET_PTRACER */, parent, 0, 0, 0);
        int listener =
            (int)call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
        if (write(ready[1], &listener, sizeof listener) != sizeof listener)
            _exit(9);
        for (long i = 0; i < 2 * HOT; i++) {
            same(call(SYS_getpgrp, i), i % 7 ? 9000 + i : -i);
            same(call(SYS_getppid), parent);
        }
        _exit(failures != 0);
    }
    int number;
    same(read(ready[0], &number, sizeof number), sizeof number);
    check(number >= 0);
    if (number < 0) {
        kill(child, SIGKILL);
        return finish();
    }
    int pidfd = (int)call(SYS_pidfd_open, child, 0);
    int listener = (int)call(SYS_pidfd_getfd, pidfd, number, 0);
    for (long i = 0; i < 2 * HOT; i++) {
        struct seccomp_notif notif = {0};
        struct seccomp_notif_resp answer = {0};
        same(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notif), 0);
        same(notif.data.nr, SYS_getpgrp);
        same(notif.data.args[0], i);
        same(notif.pid, child);
        answer.id = notif.id;
        if (i % 7)
            answer.val = 9000 + i;
        else
            answer.error = (int)-i;
        same(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer), 0);
    }
    same(ended(child), 0);
    return finish();
}
