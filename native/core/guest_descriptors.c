// Descriptors. A guest shares this process's table, and a program that is executed does not have what is
// closed on exec. So such a descriptor is this process's own, unless a call of a guest has brought it: a
// guest that closes whatever it finds, as daemons do, does not find it, nor one that this process opens
// meanwhile.
//
// What is in a table of the guest's own is all the guest's, but for what is kept by its number: listeners.
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "guest.h"
#include "rawcall.h"

// The guest's vector registers are in place: no libc here.

enum { numbers_max = 1 << 16, first_own = 3, calls_max = 512, UNSHARE = 2, CLOEXEC = 4 };
enum { unowned = 1 }; // an owner that no guest is: what was there before, and is closed on exec since

// What each number was when it was noted: it may be somebody else's by now. No inode is 0.
struct identity {
    dev_t device;
    ino_t inode;
};

static struct identity kept[numbers_max];
static struct {
    struct identity what;
    uint64_t owner; // the id of a guest, and 1 more; 0: nobody has brought it
} brought[numbers_max];
static unsigned brought_end;
static uint8_t kinds[2][calls_max]; // enum tl_guest_descriptors, native and i386

void tl_guest_tell_descriptors(bool is_i386, unsigned nr, enum tl_guest_descriptors kind)
{
    if (nr < calls_max)
        kinds[is_i386][nr] = (uint8_t)kind;
}

static enum tl_guest_descriptors kind_of(uint32_t arch, int64_t nr)
{
    return (uint64_t)nr < calls_max ? (enum tl_guest_descriptors)kinds[arch == AUDIT_ARCH_I386][nr]
                                    : TL_GUEST_NO_DESCRIPTORS;
}

bool tl_guest_has_descriptors(uint32_t arch, int64_t nr)
{
    return kind_of(arch, nr) != TL_GUEST_NO_DESCRIPTORS;
}

static bool identify(unsigned fd, struct identity *what)
{
    struct stat status;

    if (tl_rawcall(__NR_fstat, fd, (long)&status, 0, 0, 0, 0))
        return false;
    *what = (struct identity){status.st_dev, status.st_ino};
    return true;
}

static bool is_same(unsigned fd, const struct identity *what)
{
    struct identity now;

    return identify(fd, &now) && now.device == what->device && now.inode == what->inode;
}

static bool closes_on_exec(unsigned fd)
{
    long flags = tl_rawcall(__NR_fcntl, fd, F_GETFD, 0, 0, 0, 0);

    return flags >= 0 && flags & FD_CLOEXEC;
}

void tl_guest_keep(int fd)
{
    struct identity what;

    if (fd < 0 || fd >= numbers_max || !identify((unsigned)fd, &what))
        return;
    kept[fd].device = what.device;
    __atomic_store_n(&kept[fd].inode, what.inode, __ATOMIC_RELEASE);
}

static bool is_kept(unsigned fd)
{
    if (!__atomic_load_n(&kept[fd].inode, __ATOMIC_ACQUIRE))
        return false;
    if (is_same(fd, &kept[fd]))
        return true;
    kept[fd].inode = 0;
    return false;
}

static void note(unsigned fd, uint64_t owner)
{
    if (fd < first_own || fd >= numbers_max || !identify(fd, &brought[fd].what))
        return;
    unsigned end = __atomic_load_n(&brought_end, __ATOMIC_RELAXED);
    while (end <= fd &&
           !__atomic_compare_exchange_n(&brought_end, &end, fd + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
    __atomic_store_n(&brought[fd].owner, owner, __ATOMIC_RELEASE);
}

void tl_guest_note_descriptor(const struct tl_guest *guest, unsigned fd)
{
    if (!guest->owns_files)
        note(fd, guest->id + 1);
}

// Whether a descriptor is not the guest's to close.
static bool keeps(const struct tl_guest *guest, uint64_t number)
{
    unsigned fd = (unsigned)number;

    if (fd < first_own || fd >= numbers_max)
        return false;
    if (guest->owns_files)
        return is_kept(fd);
    if (!closes_on_exec(fd))
        return false;
    return !__atomic_load_n(&brought[fd].owner, __ATOMIC_ACQUIRE) || !is_same(fd, &brought[fd].what);
}

// One that has not been closed on exec is the guest's, and stays so when it is.
static void stays(const struct tl_guest *guest, uint64_t number)
{
    if (!guest->owns_files && number < numbers_max && !closes_on_exec((unsigned)number))
        note((unsigned)number, unowned);
}

static unsigned last_number(void)
{
    struct rlimit limit;

    if (tl_rawcall(__NR_getrlimit, RLIMIT_NOFILE, (long)&limit, 0, 0, 0, 0) || limit.rlim_cur > numbers_max)
        return numbers_max - 1;
    return limit.rlim_cur < brought_end ? brought_end : (unsigned)limit.rlim_cur;
}

static int64_t close_range_but(const struct tl_guest *guest, unsigned first, unsigned last, unsigned flags)
{
    if (flags & UNSHARE)
        return -EINVAL; // it would be this thread's table
    if (first > last || flags & ~CLOEXEC)
        return tl_rawcall(__NR_close_range, first, last, (long)flags, 0, 0, 0);
    unsigned end = last_number();
    for (unsigned fd = first; fd <= last && fd <= end; fd++) {
        if (!keeps(guest, fd)) {
            if (flags & CLOEXEC)
                stays(guest, fd);
            else if (brought[fd].owner)
                brought[fd].owner = 0;
            continue;
        }
        int64_t result = fd > first ? tl_rawcall(__NR_close_range, first, fd - 1, (long)flags, 0, 0, 0) : 0;
        if (result < 0 || fd == last)
            return result;
        first = fd + 1;
    }
    return tl_rawcall(__NR_close_range, first, last, (long)flags, 0, 0, 0);
}

// fcntl and ioctl where they say whether it is closed on exec. True: RESULT is what the guest gets.
static bool flag(const struct tl_guest *guest, uint64_t fd, bool closes, int64_t *result)
{
    if (!keeps(guest, fd)) {
        stays(guest, fd);
        return false;
    }
    *result = closes ? 0 : -EBADF;
    return true;
}

bool tl_guest_spare(struct tl_guest_thread *thread, int64_t *result)
{
    const struct tl_guest *guest = thread->guest;
    const uint64_t *args = thread->args;

    thread->let_go = 0;
    switch (kind_of(thread->arch, thread->nr)) {
    case TL_GUEST_CLOSES:
        *result = -EBADF;
        if (keeps(guest, args[0]))
            return true;
        // Before it is closed: its number may be another thread's behind that.
        if (!guest->owns_files && args[0] < numbers_max)
            thread->let_go = __atomic_exchange_n(&brought[args[0]].owner, 0, __ATOMIC_RELAXED);
        return false;
    case TL_GUEST_REPLACES:
        *result = -EBUSY;
        return keeps(guest, args[1]);
    case TL_GUEST_CLOSES_RANGE:
        *result = close_range_but(guest, (unsigned)args[0], (unsigned)args[1], (unsigned)args[2]);
        return true;
    case TL_GUEST_CONTROLS:
        return args[1] == F_SETFD && flag(guest, args[0], args[2] & FD_CLOEXEC, result);
    case TL_GUEST_REQUESTS:
        return ((uint32_t)args[1] == FIOCLEX || (uint32_t)args[1] == FIONCLEX) &&
               flag(guest, args[0], (uint32_t)args[1] == FIOCLEX, result);
    default:
        return false;
    }
}

void tl_guest_take_back(const struct tl_guest_thread *thread)
{
    if (thread->let_go)
        __atomic_store_n(&brought[thread->args[0]].owner, thread->let_go, __ATOMIC_RELAXED);
}

static long copy(void *to, uint64_t address, size_t size)
{
    struct iovec local = {to, size}, remote = {(void *)address, size};
    long pid = tl_rawcall(__NR_getpid, 0, 0, 0, 0, 0, 0);

    return tl_rawcall(__NR_process_vm_readv, pid, (long)&local, 1, (long)&remote, 1, 0);
}

static void note_pair(const struct tl_guest *guest, uint64_t address)
{
    unsigned pair[2];

    if (copy(pair, address, sizeof pair) != sizeof pair)
        return;
    tl_guest_note_descriptor(guest, pair[0]);
    tl_guest_note_descriptor(guest, pair[1]);
}

// What has come with a message; the kernel passes at most 253 of them.
static void note_passed(const struct tl_guest *guest, uint64_t address)
{
    struct msghdr header;
    uint64_t control[256];

    if (copy(&header, address, sizeof header) != sizeof header || !header.msg_control)
        return;
    size_t size = header.msg_controllen < sizeof control ? header.msg_controllen : sizeof control;
    if (copy(control, (uint64_t)header.msg_control, size) != (long)size)
        return;
    for (size_t at = 0; at + sizeof(struct cmsghdr) <= size;) {
        const struct cmsghdr *message = (const struct cmsghdr *)((const char *)control + at);
        if (message->cmsg_len < sizeof *message || message->cmsg_len > size - at)
            return;
        const unsigned *fds = (const unsigned *)(message + 1);
        size_t count = (message->cmsg_len - sizeof *message) / sizeof *fds;
        if (message->cmsg_level == SOL_SOCKET && message->cmsg_type == SCM_RIGHTS)
            for (size_t i = 0; i < count; i++)
                tl_guest_note_descriptor(guest, fds[i]);
        at += (message->cmsg_len + 7) & ~(size_t)7;
    }
}

void tl_guest_bring(const struct tl_guest_thread *thread, int64_t result)
{
    const struct tl_guest *guest = thread->guest;
    const uint64_t *args = thread->args;

    if (result < 0 || guest->owns_files)
        return;
    switch (kind_of(thread->arch, thread->nr)) {
    case TL_GUEST_CONTROLS:
        if (args[1] != F_DUPFD && args[1] != F_DUPFD_CLOEXEC)
            return;
        tl_guest_note_descriptor(guest, (unsigned)result);
        return;
    case TL_GUEST_OPENS:
    case TL_GUEST_REPLACES:
        tl_guest_note_descriptor(guest, (unsigned)result);
        return;
    case TL_GUEST_REQUESTS: // some of them: what else the number may be is not for us to close
        note((unsigned)result, unowned);
        return;
    case TL_GUEST_OPENS_TWO:
        note_pair(guest, args[0]);
        return;
    case TL_GUEST_OPENS_PAIR:
        note_pair(guest, args[3]);
        return;
    case TL_GUEST_RECEIVES:
        note_passed(guest, args[1]);
        return;
    case TL_GUEST_RECEIVES_MANY:
        for (int64_t i = 0; i < result; i++)
            note_passed(guest, args[1] + (uint64_t)i * sizeof(struct mmsghdr));
        return;
    default:
        return;
    }
}

void tl_guest_close_descriptors(const struct tl_guest *guest)
{
    unsigned end = __atomic_load_n(&brought_end, __ATOMIC_RELAXED);

    for (unsigned fd = first_own; fd < end; fd++) {
        uint64_t owner = guest->id + 1;
        if (__atomic_compare_exchange_n(&brought[fd].owner, &owner, 0, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED) &&
            is_same(fd, &brought[fd].what))
            tl_rawcall(__NR_close, fd, 0, 0, 0, 0, 0);
    }
}
