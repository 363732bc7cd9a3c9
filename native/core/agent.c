#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "own_calls.h"

// The agent, as the build made it: agent_image.S.
extern const unsigned char tl_agent_image[], tl_agent_image_end[];

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

// The kernel's table of descriptors grows with the highest one: 8 bytes each, in every process.
enum { highest_limit = 32768, usual_limit = 1024 };

// Newer than the headers that we may be built with.
enum { set_dispatch = 59, dispatch_on = 1, membarrier_query = 0, sync_core = 1 << 5 };

// Asked so that the answer changes nothing, and in no child, which a short program would have to wait for.
static struct tl_error *find_obstacle(uint32_t flags)
{
    const uint32_t trap = SECCOMP_RET_TRAP;

    if (flags & TL_ENGINE_TRAP) {
        if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &trap) < 0)
            return tl_error_new(errno, "seccomp(SECCOMP_GET_ACTION_AVAIL) of SECCOMP_RET_TRAP");
    } else if (prctl(set_dispatch, dispatch_on, 0, 0, -1L) == 0 || errno != EFAULT) {
        // Where there is dispatch, the selector's address is what is wrong.
        return tl_error_new(errno, "prctl(PR_SET_SYSCALL_USER_DISPATCH)");
    }
    if (!(flags & TL_ENGINE_REWRITES))
        return NULL;
    long commands = syscall(SYS_membarrier, membarrier_query, 0, 0);
    if (commands < 0 || !(commands & sync_core))
        return tl_error_new(commands < 0 ? errno : EOPNOTSUPP,
                            "membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE)");
    return NULL;
}

// Two numbers that the program cannot get by itself: the first ones beyond its limit, if we may go there.
static int first_number(void)
{
    struct rlimit limit, more;

    getrlimit(RLIMIT_NOFILE, &limit);
    more = limit;
    more.rlim_cur += 2;
    if (more.rlim_max < more.rlim_cur)
        more.rlim_max = more.rlim_cur;
    if (limit.rlim_cur <= highest_limit && setrlimit(RLIMIT_NOFILE, &more) == 0) {
        setrlimit(RLIMIT_NOFILE, &limit);
        return (int)limit.rlim_cur;
    }
    return (limit.rlim_cur < usual_limit ? (int)limit.rlim_cur : usual_limit) - 2;
}

static struct tl_error *fill(struct tl_agent *agent)
{
    size_t size = (size_t)(tl_agent_image_end - tl_agent_image), page = (size_t)sysconf(_SC_PAGESIZE);
    const unsigned char *from = tl_agent_image;
    int pair[2];

    agent->image_size = (size + page - 1) & ~(page - 1);
    agent->memory = memfd_create("trapline", MFD_CLOEXEC | MFD_EXEC);
    if (agent->memory < 0 && errno == EINVAL) // before 6.3
        agent->memory = memfd_create("trapline", MFD_CLOEXEC);
    if (agent->memory < 0)
        return tl_error_new(errno, "memfd_create");
    if (ftruncate(agent->memory, (off_t)(agent->image_size + tl_shared_size)) < 0)
        return tl_error_new(errno, "cannot make room for a session");
    for (off_t at = 0; size;) {
        ssize_t done = pwrite(agent->memory, from + at, size, at);
        if (done < 0)
            return tl_error_new(errno, "cannot write the agent");
        at += done;
        size -= (size_t)done;
    }
    void *memory = mmap(NULL, tl_shared_size, PROT_READ | PROT_WRITE, MAP_SHARED, agent->memory,
                        (off_t)agent->image_size);
    if (memory == MAP_FAILED)
        return tl_error_new(errno, "cannot map a session");
    agent->session = memory;
    agent->session->size = sizeof *agent->session;
    agent->session->supervisor = getpid();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return tl_error_new(errno, "socketpair");
    agent->socket = pair[0];
    agent->peer = pair[1];
    // Says who sends, in our numbers.
    if (setsockopt(agent->socket, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)) < 0)
        return tl_error_new(errno, "setsockopt(SO_PASSCRED)");
    agent->socket_number = first_number();
    agent->memory_number = agent->socket_number + 1;
    return NULL;
}

struct tl_error *tl_agent_new(struct tl_agent *agent, uint32_t flags)
{
    *agent = (struct tl_agent){.memory = -1, .socket = -1, .peer = -1};
    struct tl_error *error = find_obstacle(flags);
    if (!error)
        error = fill(agent);
    if (error)
        tl_agent_free(agent);
    return error;
}

void tl_agent_close(struct tl_agent *agent)
{
    int *fds[] = {&agent->memory, &agent->socket, &agent->peer};

    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

void tl_agent_free(struct tl_agent *agent)
{
    if (agent->session)
        munmap(agent->session, tl_shared_size);
    agent->session = NULL;
    tl_agent_close(agent);
}

void tl_agent_close_peer(struct tl_agent *agent)
{
    if (agent->peer >= 0)
        close(agent->peer);
    agent->peer = -1;
}

const unsigned char *tl_agent_header(struct tl_image_header *header)
{
    memcpy(header, tl_agent_image, sizeof *header);
    return tl_agent_image;
}

void tl_agent_classify_own(struct tl_agent *agent)
{
    for (size_t i = 0; i < sizeof tl_own_calls / sizeof *tl_own_calls; i++)
        agent->session->classes[tl_own_calls[i]] = TL_SLOW;
}

void tl_agent_fix_place(struct tl_agent *agent)
{
    uint32_t random[2] = {0};

    if (getrandom(random, sizeof random, GRND_NONBLOCK) < 0)
        random[0] = random[1] = (uint32_t)getpid();
    // Just below where the kernel puts mappings: sanitizers allow it, and nothing large is split. A multiple
    // of the region's size, since the filter takes the image for one piece of the lower half of an address.
    agent->session->base = 0x7e9000000000ull + (uint64_t)(random[0] % 0x4000) * tl_region_size;
    agent->session->secret = 1 + random[1] % 0xfffffffe; // programs have 0 and -1 there
}
