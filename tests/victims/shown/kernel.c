// Calls that few programs make: keys, BPF, events of the processor, mounts, quotas, options of prctl,
// requests of drivers.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/keyctl.h>
#include <linux/kvm.h>
#include <linux/landlock.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <linux/netlink.h>
#include <linux/openat2.h>
#include <linux/perf_event.h>
#include <linux/quota.h>
#include <linux/sched/types.h>
#include <signal.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CALL(name, ...) syscall(SYS_##name, ##__VA_ARGS__)

static char buffer[4096];
// What is read of strings goes some bytes beyond their ends.
static char word[64] = "word", other[64] = "other";

static void keys(void)
{
    CALL(add_key, "user", "trapline", "data", 4, KEY_SPEC_PROCESS_KEYRING);
    CALL(request_key, "user", "trapline-none", NULL, KEY_SPEC_SESSION_KEYRING);
    CALL(keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
    CALL(keyctl, KEYCTL_DESCRIBE, KEY_SPEC_USER_KEYRING, buffer, 100);
    CALL(keyctl, KEYCTL_SETPERM, 5, 0x3f3f0100);
    CALL(keyctl, KEYCTL_REVOKE, 99);
    CALL(keyctl, KEYCTL_JOIN_SESSION_KEYRING, word);
    CALL(keyctl, KEYCTL_SEARCH, KEY_SPEC_PROCESS_KEYRING, word, other, 0);
    CALL(keyctl, KEYCTL_CLEAR, 77);
    CALL(keyctl, KEYCTL_SET_TIMEOUT, 77, 10);
    CALL(keyctl, KEYCTL_LINK, 77, KEY_SPEC_THREAD_KEYRING);
}

static void programs(void)
{
    const unsigned key = 1;
    const unsigned long value = 7;
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 2};
    long map = CALL(bpf, BPF_MAP_CREATE, &attr, sizeof attr);

    memset(&attr, 0, sizeof attr);
    attr.map_fd = (unsigned)map;
    attr.key = (unsigned long)&key;
    attr.value = (unsigned long)&value;
    CALL(bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof attr);
    CALL(bpf, BPF_MAP_LOOKUP_ELEM, &attr, sizeof attr);
    CALL(bpf, BPF_MAP_DELETE_ELEM, &attr, sizeof attr);
    const struct bpf_insn code[] = {{.code = 0xb7}, {.code = 0x95}};
    memset(&attr, 0, sizeof attr);
    attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    attr.insn_cnt = 2;
    attr.insns = (unsigned long)code;
    attr.license = (unsigned long)word;
    CALL(bpf, BPF_PROG_LOAD, &attr, sizeof attr);
    memset(&attr, 0, sizeof attr);
    attr.pathname = (unsigned long)other;
    attr.bpf_fd = 77;
    CALL(bpf, BPF_OBJ_PIN, &attr, 16);
    CALL(bpf, 999, NULL, 0);
    close((int)map);
}

static void events(void)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE,
                                   .size = sizeof attr,
                                   .config = PERF_COUNT_SW_TASK_CLOCK,
                                   .disabled = 1,
                                   .exclude_kernel = 1,
                                   .sample_period = 1000,
                                   .sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID};
    int fd = (int)CALL(perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);

    ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
    ioctl(fd, PERF_EVENT_IOC_RESET, 0);
    ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
    close(fd);
    attr.type = 77;
    attr.config = 5;
    CALL(perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_NO_GROUP | PERF_FLAG_PID_CGROUP);
    fd = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_FID, O_RDONLY);
    fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_ONLYDIR, FAN_CREATE | FAN_ONDIR, AT_FDCWD, "/tmp");
    fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN_PERM, -1, "/");
    fanotify_init(0xc, O_RDWR);
    close(fd);
    fd = inotify_init1(IN_NONBLOCK);
    inotify_rm_watch(fd, inotify_add_watch(fd, "/", IN_CREATE | IN_DELETE | IN_ONLYDIR));
    close(fd);
}

static void restrictions(void)
{
    struct sched_attr attr = {.size = sizeof attr, .sched_policy = 6, .sched_flags = 5, .sched_runtime = 10};
    struct landlock_ruleset_attr rules = {.handled_access_fs =
                                              LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE};
    int fd = (int)CALL(landlock_create_ruleset, &rules, 8, 0);
    struct landlock_path_beneath_attr rule = {LANDLOCK_ACCESS_FS_READ_FILE, open("/etc", O_PATH)};

    CALL(landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    CALL(landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    CALL(landlock_restrict_self, fd, 8);
    close(fd);
    close(rule.parent_fd);
    CALL(sched_setattr, 0, &attr, 0);
    CALL(pkey_alloc, 0, 3);
    CALL(mbind, NULL, 0, 1 | 0x8000, NULL, 0, 1);
    CALL(set_mempolicy, 0, NULL, 0);
    CALL(reboot, 0, 0, 0, NULL);
    CALL(delete_module, "none", O_NONBLOCK);
    CALL(ioperm, 1, 1, 0);
}

static void mounts(void)
{
    struct {
        struct file_handle head;
        char bytes[128];
    } handle = {.head = {.handle_bytes = 128}};
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY, .propagation = 1 << 18};
    int id, fd = (int)CALL(fsopen, "tmpfs", 0);

    CALL(fsconfig, fd, FSCONFIG_SET_STRING, "size", word, 0);
    CALL(fsconfig, fd, FSCONFIG_SET_FLAG, "ro", NULL, 0);
    close(fd);
    CALL(mount_setattr, -1, "", AT_EMPTY_PATH, &attr, sizeof attr);
    CALL(mount, "a", "/none", "ext4", 0x200000 | 2 | 1024, "data=x");
    CALL(umount2, "/none", 1 | 8);
    CALL(mknod, "/none/device", S_IFCHR | 0600, 0x8800);
    CALL(quotactl, QCMD(Q_GETQUOTA, USRQUOTA), "/dev/none", 0, buffer);
    CALL(quotactl, QCMD(Q_GETINFO, GRPQUOTA), "/dev/none", 0, buffer);
    CALL(quotactl, QCMD(Q_SYNC, GRPQUOTA), "/dev/none", 0, NULL);
    name_to_handle_at(AT_FDCWD, "/etc/passwd", &handle.head, &id, AT_SYMLINK_FOLLOW);
    close(open_by_handle_at(AT_FDCWD, &handle.head, O_RDONLY));
}

static void options(void)
{
    int value;

    prctl(PR_CAPBSET_READ, 77);
    prctl(PR_CAPBSET_DROP, 40);
    prctl(PR_GET_TID_ADDRESS, buffer);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 5, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_DEFAULT, 0, 0);
    prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
    prctl(PR_SET_MM, PR_SET_MM_BRK, 0, 0, 0);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    prctl(PR_GET_TSC, &value);
    prctl(PR_SET_TIMING, 0);
    prctl(PR_GET_TIMING);
    prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0);
    prctl(PR_GET_FPEMU, &value);
    prctl(PR_TASK_PERF_EVENTS_DISABLE);
    prctl(PR_SET_TIMERSLACK, 50000);
    prctl(PR_SET_SECUREBITS, 0);
}

static void requests(void)
{
    int fd = memfd_create("name", MFD_ALLOW_SEALING), value = 0;
    struct f_owner_ex owner = {F_OWNER_PID, 0};
    unsigned long range[3] = {4096, 0, 8};

    fcntl(fd, F_SETOWN_EX, &owner);
    fcntl(fd, F_GETOWN_EX, &owner);
    fcntl(fd, F_NOTIFY, DN_MULTISHOT | DN_CREATE);
    ioctl(fd, FS_IOC_GETFLAGS, &value);
    ioctl(fd, FIFREEZE, 0);
    ioctl(fd, FITRIM, range);
    ioctl(fd, FS_IOC_FSGETXATTR, buffer);
    ioctl(-1, BLKDISCARD, range);
    ioctl(-1, TUNSETIFF, buffer);
    ioctl(-1, TUNGETIFF, buffer);
    ioctl(-1, TUNSETPERSIST, 1);
    ioctl(-1, LOOP_SET_FD, 3);
    ioctl(-1, LOOP_CLR_FD, 0);
    ioctl(-1, LOOP_GET_STATUS64, buffer);
    ioctl(-1, LOOP_CTL_GET_FREE, 0);
    ioctl(-1, KVM_GET_API_VERSION, 0);
    ioctl(-1, KVM_CREATE_VM, 0);
    ioctl(-1, KVM_CREATE_VCPU, 0);
    ioctl(-1, KVM_RUN, 0);
    ioctl(-1, TIOCSTI, "x");
    close(fd);
    fd = open("/proc/self/ns/net", O_RDONLY);
    ioctl(fd, 0xb703);
    ioctl(fd, 0xb701);
    close(fd);
    fd = socket(AF_NETLINK, SOCK_RAW, 0);
    setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &(int){1}, sizeof(int));
    setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &(int){1}, sizeof(int));
    close(fd);
}

int main(void)
{
    keys();
    programs();
    events();
    restrictions();
    mounts();
    options();
    requests();
    return 0;
}
