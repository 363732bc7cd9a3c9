// Which process and thread a program's thread is: in a namespace of its own it has another number.
#include "agent_transport.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

// The thread of PID that has this number in the innermost namespace that it is in.
static pid_t find_thread(pid_t pid, pid_t inner)
{
    char path[64], line[256];
    pid_t found = pid;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/status", pid, task->d_name);
        FILE *file = fopen(path, "re");
        while (file && fgets(line, sizeof line, file)) {
            const char *last = strncmp(line, "NSpid:", 6) == 0 ? strrchr(line, '\t') : NULL;
            if (last && atoi(last) == inner)
                found = atoi(task->d_name);
        }
        if (file)
            fclose(file);
    }
    if (tasks)
        closedir(tasks);
    return found;
}

// Who posts here? Each such post comes with a message, which the kernel signs.
void tl_agent_find_out(struct agent_transport *a, struct tl_mailbox *box)
{
    uint32_t wanted = (uint32_t)(box - a->session->mailboxes), number;
    pid_t pid = 0;

    pthread_mutex_lock(&a->lock);
    for (;;) {
        char control[CMSG_SPACE(sizeof(struct ucred))] __attribute__((aligned(8)));
        struct iovec vector = {&number, sizeof number};
        struct msghdr message = {
            .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct ucred sender;
        if (recvmsg(a->transport.fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != sizeof number)
            break;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (number < tl_mailboxes && header && header->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&sender, CMSG_DATA(header), sizeof sender);
            a->senders[number] = sender.pid;
        }
    }
    pid = a->senders[wanted];
    a->senders[wanted] = 0;
    pthread_mutex_unlock(&a->lock);
    bool is_first = box->pid == box->tid;
    box->args[0] = (uint64_t)(pid ? pid : box->pid);
    box->args[1] = (uint64_t)(!pid ? box->tid : is_first ? pid : find_thread(pid, box->tid));
    tl_mailbox_answer(box, TL_ANSWER_GO_ON);
}
