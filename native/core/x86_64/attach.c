// A process that runs already gets the agent: all its threads are stopped, one of them makes the calls that
// bring the agent in, and then each runs what makes the agent its own. What it was doing goes on.
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hold.h"
#include "memory.h"
#include "region.h"

enum {
    restart_by_block = 516, // -ERESTART_RESTARTBLOCK
    syscall_bytes = 0x050f,
    highest_number = 1024,
    nap_ns = 10 * 1000 * 1000,
    tries_max = 100,
};

static bool is_safe(const struct tl_hold *hold, const struct tl_held *held)
{
    (void)hold;
    (void)held;
    return true;
}

struct entry {
    struct tl_agent *agent;
    struct tl_hold *hold;
    struct tl_held *caller;
    pid_t pid;
    uint64_t base; // 0: nothing is mapped yet
    int socket_fd, memory_fd;
};

static struct tl_error *call(void *context, long nr, const uint64_t args[6], int64_t *result)
{
    struct entry *entry = context;
    int error = tl_held_call(entry->hold, entry->caller, nr, args, result);

    return error ? tl_error_new(error, "cannot make a call in the program") : NULL;
}

// The same for one that must not fail.
static struct tl_error *must(struct entry *entry, const char *what, long nr, const uint64_t args[6],
                             int64_t *result)
{
    struct tl_error *error = call(entry, nr, args, result);

    return error || *result >= 0 ? error : tl_error_new((int)-*result, "%s, in the program", what);
}

static int send_descriptors(const struct tl_agent *agent, int socket)
{
    char byte = 0;
    struct iovec vector = {&byte, 1};
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr header;
    } control = {0};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    const int fds[2] = {agent->peer, agent->memory};

    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(&control.header), fds, sizeof fds);
    return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? errno : 0;
}

// A descriptor of the program, here.
static int take_descriptor(pid_t pid, int number)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
    int error = errno;

    if (pidfd >= 0)
        close(pidfd);
    errno = error;
    return fd;
}

// Through a pair of sockets of the program's: PAIR. What is written for its calls is where the process's data
// will be.
static struct tl_error *pass_descriptors(struct entry *entry, const int pair[2])
{
    const uint64_t place = entry->base + tl_data;
    struct {
        uint64_t name, name_size, vector, vectors, control, control_size, flags;
        uint64_t base, size;
        uint64_t length;
        int32_t level, type, fds[2];
    } message = {.vector = place + 7 * 8,
                 .vectors = 1,
                 .control = place + 9 * 8,
                 .control_size = 24,
                 .base = place + 12 * 8,
                 .size = 1};
    size_t done;
    int64_t result;
    int socket = take_descriptor(entry->pid, pair[1]);

    if (socket < 0)
        return tl_error_new(errno, "pidfd_getfd");
    int failed = send_descriptors(entry->agent, socket);
    close(socket);
    if (failed)
        return tl_error_new(failed, "sendmsg");
    if ((failed = tl_memory_write(entry->pid, place, &message, sizeof message, &done)))
        return tl_error_new(failed, "cannot write into the program");
    struct tl_error *error =
        must(entry, "recvmsg", SYS_recvmsg, (const uint64_t[6]){(uint64_t)pair[0], place}, &result);
    if (error)
        return error;
    failed = tl_memory_read(entry->pid, place, &message, sizeof message, &done);
    if (failed || message.type != SCM_RIGHTS || message.length < CMSG_LEN(sizeof message.fds))
        return tl_error_new(failed ? failed : EMFILE, "cannot pass descriptors to the program");
    entry->socket_fd = message.fds[0];
    entry->memory_fd = message.fds[1];
    return NULL;
}

// Out of the way of the program's own, if there is room.
static struct tl_error *move_up(struct entry *entry, int *fd)
{
    struct rlimit limit;
    int64_t result, ignored;

    if (prlimit(entry->pid, RLIMIT_NOFILE, NULL, &limit) < 0)
        return tl_error_new(errno, "prlimit");
    uint64_t highest = limit.rlim_cur < highest_number ? limit.rlim_cur : highest_number;
    const uint64_t duplicate[6] = {(uint64_t)*fd, 0 /* F_DUPFD */, highest < 2 ? 0 : highest - 2};
    struct tl_error *error = call(entry, SYS_fcntl, duplicate, &result);
    if (error || result < 0)
        return error;
    error = call(entry, SYS_close, (const uint64_t[6]){(uint64_t)*fd}, &ignored);
    *fd = (int)result;
    return error;
}

static struct tl_error *bring_descriptors(struct entry *entry)
{
    const uint64_t place = entry->base + tl_data;
    int pair[2];
    int64_t result;
    size_t done;
    struct tl_error *error =
        must(entry, "socketpair", SYS_socketpair,
             (const uint64_t[6]){AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, place}, &result);

    if (error)
        return error;
    int failed = tl_memory_read(entry->pid, place, pair, sizeof pair, &done);
    error = failed ? tl_error_new(failed, "cannot read the program's memory") : pass_descriptors(entry, pair);
    for (int i = 0; i < 2 && !failed; i++)
        tl_error_free(call(entry, SYS_close, (const uint64_t[6]){(uint64_t)pair[i]}, &result));
    if (!error)
        error = move_up(entry, &entry->socket_fd);
    if (!error)
        error = move_up(entry, &entry->memory_fd);
    return error;
}

static struct tl_error *bring_agent(struct entry *entry)
{
    struct tl_start start = {.image_size = entry->agent->image_size};
    uint64_t base;
    size_t done;

    if (!tl_region_find_place(entry->pid, entry->caller->regs.rip, &base))
        return tl_error_new(ENOMEM, "no place for the agent in the program's memory");
    struct tl_error *error = tl_region_reserve(entry->agent, call, entry, base);
    if (error)
        return error;
    entry->base = base;
    if ((error = bring_descriptors(entry)) ||
        (error = tl_region_load(entry->agent, call, entry, entry->memory_fd, base)))
        return error;
    start.socket_fd = entry->socket_fd;
    start.memory_fd = entry->memory_fd;
    // Over what was needed to bring it there.
    int failed = tl_memory_write(entry->pid, base + tl_data, &start, sizeof start, &done);
    return failed ? tl_error_new(failed, "cannot write into the program") : NULL;
}

static void take_back_agent(struct entry *entry)
{
    int64_t result;

    if (entry->socket_fd >= 0)
        tl_error_free(call(entry, SYS_close, (const uint64_t[6]){(uint64_t)entry->socket_fd}, &result));
    if (entry->memory_fd >= 0)
        tl_error_free(call(entry, SYS_close, (const uint64_t[6]){(uint64_t)entry->memory_fd}, &result));
    if (entry->base)
        tl_error_free(call(entry, SYS_munmap, (const uint64_t[6]){entry->base, tl_region_size}, &result));
}

// The kernel goes on with a call in its own way, not with the arguments that it was made with.
static bool is_restarted(const struct tl_held *held)
{
    uint16_t instruction;
    size_t done;

    return (int64_t)held->regs.rax == -restart_by_block && (int64_t)held->regs.orig_rax >= 0 &&
           tl_memory_read(held->tid, held->regs.rip - sizeof instruction, &instruction, sizeof instruction,
                          &done) == 0 &&
           done == sizeof instruction && instruction == syscall_bytes;
}

static struct tl_error *enter_thread(struct entry *entry, struct tl_held *held, bool is_first)
{
    struct tl_visit visit = {
        .pid = entry->pid,
        .tid = held->tid,
        .is_first = is_first,
        .is_restarted = is_restarted(held),
        .dispatch = {held->dispatch.mode, held->dispatch.offset, held->dispatch.size,
                     held->dispatch.selector},
    };
    struct user_regs_struct before = held->regs;
    uint64_t mask = held->mask;
    int64_t result = 0;

    held->base = entry->base;
    int failed = tl_held_visit(entry->hold, held, entry->hold->header.enter, &visit, &result);
    if (!failed && !visit.has_failed && result == 0) {
        held->dispatch.mode = 0; // the agent does it
        return NULL;
    }
    held->regs = before;
    held->mask = mask;
    if (!failed && !visit.has_failed) {
        int64_t ignored;
        visit.is_last = is_first;
        tl_held_visit(entry->hold, held, entry->hold->header.leave, &visit, &ignored);
    }
    held->base = 0;
    if (failed)
        return tl_error_new(failed, "cannot run the agent in thread %d", held->tid);
    if (visit.has_failed)
        return tl_error_new(ENOMEM, "no room for the agent in the program's memory");
    return tl_error_new((int)-result, "prctl(PR_SET_SYSCALL_USER_DISPATCH)");
}

// What is written to code, to patch it, splits its mapping. The parts can be joined again if the kernel has
// seen the whole of it written to before, and that is all that is done here: a word is replaced by itself.
static void prepare_code(pid_t pid)
{
    char path[32], line[512], access[5];
    unsigned long long start, inode;

    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    while (maps && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%llx-%*x %4s %*s %*s %llu", &start, access, &inode) != 3 || !inode ||
            strcmp(access, "r-xp") != 0)
            continue;
        errno = 0;
        long word = ptrace(PTRACE_PEEKTEXT, pid, (void *)(uintptr_t)start, NULL);
        if (!errno)
            ptrace(PTRACE_POKETEXT, pid, (void *)(uintptr_t)start, word);
    }
    if (maps)
        fclose(maps);
}

// With all threads stopped, and the first of them, which makes the calls, taken.
static struct tl_error *enter(struct entry *entry)
{
    struct tl_hold *hold = entry->hold;

    if (entry->agent->session->flags & TL_ENGINE_REWRITES)
        prepare_code(entry->caller->tid);
    struct tl_error *error = bring_agent(entry);

    if (error || (error = enter_thread(entry, entry->caller, true))) {
        take_back_agent(entry);
        return error;
    }
    for (size_t i = 0; i < hold->count && !error; i++) {
        struct tl_held *held = &hold->held[i];
        if (held == entry->caller || held->is_gone)
            continue;
        int failed = tl_held_take(held);
        error = failed ? tl_error_new(failed, "ptrace of thread %d", held->tid)
                       : enter_thread(entry, held, false);
        if (error && error->code == ESRCH) { // it was killed
            tl_error_free(error);
            error = NULL;
        }
        tl_held_put_back(hold, held);
    }
    return error;
}

static struct tl_error *attach(struct tl_agent *agent, pid_t pid, struct tl_hold *hold)
{
    struct entry entry = {.agent = agent, .hold = hold, .pid = pid, .socket_fd = -1, .memory_fd = -1};
    struct tl_error *error = tl_hold_all(hold, pid);

    if (!error && hold->region)
        error = tl_error_new(EALREADY, "it has an agent");
    for (size_t i = 0; i < hold->count && !entry.caller; i++)
        if (!hold->held[i].is_gone)
            entry.caller = &hold->held[i];
    if (!error && !entry.caller->knows_dispatch)
        error = tl_error_new(EIO, "Linux 6.4 or later is needed to leave the process again");
    if (!error && !tl_hold_find_call(hold, pid))
        error = tl_error_new(ENOENT, "the program has no system call instruction");
    if (!error && (errno = tl_held_take(entry.caller)))
        error = tl_error_new(errno, "ptrace");
    if (error)
        return error;
    error = enter(&entry);
    tl_held_put_back(hold, entry.caller);
    if (error && entry.caller->base)
        tl_hold_leave(hold, true);
    return error;
}

// Its thread is the tracer, and ends when it has let go: the kernel then lets go of a thread that could not
// be stopped, and nobody else can.
struct tl_attachment {
    struct tl_agent *agent;
    pid_t pid;
    struct tl_error *error;
    pthread_t thread;
    sem_t is_done, may_go;
};

static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) < 0 && errno == EINTR)
        continue;
}

static void *attach_main(void *argument)
{
    struct tl_attachment *attachment = argument;
    struct tl_hold hold = {.command = attachment->pid, .is_safe = is_safe};

    attachment->error = attach(attachment->agent, attachment->pid, &hold);
    if (!attachment->error) {
        sem_post(&attachment->is_done);
        wait_for(&attachment->may_go);
    }
    tl_hold_end(&hold);
    sem_post(&attachment->is_done);
    return NULL;
}

// Signals are for other threads.
static int start(pthread_t *thread, void *(*main)(void *), void *argument)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, main, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

struct tl_error *tl_agent_attach(struct tl_agent *agent, pid_t pid, struct tl_attachment **made)
{
    struct tl_attachment *attachment = calloc(1, sizeof *attachment);

    if (!attachment)
        return tl_error_new(ENOMEM, "cannot attach");
    *attachment = (struct tl_attachment){.agent = agent, .pid = pid};
    sem_init(&attachment->is_done, 0, 0);
    sem_init(&attachment->may_go, 0, 0);
    int failed = start(&attachment->thread, attach_main, attachment);
    if (failed) {
        free(attachment);
        return tl_error_new(failed, "cannot start a thread to attach from");
    }
    wait_for(&attachment->is_done);
    struct tl_error *error = attachment->error;
    if (error) {
        tl_agent_go(attachment);
        return error;
    }
    tl_agent_close_peer(agent);
    *made = attachment;
    return NULL;
}

void tl_agent_go(struct tl_attachment *attachment)
{
    sem_post(&attachment->may_go);
    pthread_join(attachment->thread, NULL);
    sem_destroy(&attachment->is_done);
    sem_destroy(&attachment->may_go);
    free(attachment);
}

// Does a process have this memory?
static bool has_memory(pid_t pid, const struct stat *memory)
{
    char path[32], line[512];
    unsigned long inode;
    bool found = false;

    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    while (maps && !found && fgets(line, sizeof line, maps))
        found = strstr(line, "/memfd:trapline") && sscanf(line, "%*s %*s %*s %*s %lu", &inode) == 1 &&
                inode == memory->st_ino;
    if (maps)
        fclose(maps);
    return found;
}

static unsigned leave_each(const struct tl_agent *agent, pid_t command, const struct stat *memory,
                           unsigned *left)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    unsigned found = 0;

    *left = 0;
    while (processes && (entry = readdir(processes))) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid <= 0 || pid == agent->session->supervisor || !has_memory(pid, memory))
            continue;
        if (tl_agent_release(pid, command, true))
            found++;
        else
            *left += has_memory(pid, memory);
    }
    if (processes)
        closedir(processes);
    return found;
}

// Programs fork while others are left, and one that is about to execute another is not to be had for a
// moment.
static unsigned detach(const struct tl_agent *agent, pid_t command)
{
    struct pollfd end = {agent->socket, 0, 0};
    const struct timespec nap = {0, nap_ns};
    struct stat memory;
    unsigned left = 0;

    if (fstat(agent->memory, &memory) < 0)
        return 0;
    for (unsigned tries = 0; tries < tries_max && !(poll(&end, 1, 0) > 0 && end.revents & POLLHUP);) {
        if (leave_each(agent, command, &memory, &left))
            continue;
        if (!left)
            break;
        nanosleep(&nap, NULL);
        tries++;
    }
    return left;
}

struct detaching {
    const struct tl_agent *agent;
    pid_t command;
    unsigned left;
};

static void *detach_main(void *argument)
{
    struct detaching *detaching = argument;

    detaching->left = detach(detaching->agent, detaching->command);
    return NULL;
}

unsigned tl_agent_detach(const struct tl_agent *agent, pid_t command)
{
    struct detaching detaching = {agent, command, 0};
    pthread_t thread;

    if (start(&thread, detach_main, &detaching))
        return detach(agent, command);
    pthread_join(thread, NULL);
    return detaching.left;
}
