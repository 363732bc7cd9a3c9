// Readers of /proc/self and of the auxiliary vector: maps that parse and are sorted, the program's own lines
// as they are natively, exe, comm, cmdline, environ, auxv, stat, status, and its own text.

#include <ctype.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/auxv.h>

#include "exact.h"

static int own_text, objects;

static long read_file(const char *name, char *text, long size)
{
    int fd = open(name, O_RDONLY);
    long length = 0, got;

    while (length < size - 1 && (got = read(fd, text + length, (size_t)(size - 1 - length))) > 0)
        length += got;
    text[length] = 0;
    close(fd);
    return length;
}

static void maps(void)
{
    static char text[1 << 17];
    unsigned long last = 0, from, to, offset, inode, major, minor;
    char rights[8];
    int own = 0, bad = 0, named = 0;

    read_file("/proc/self/maps", text, sizeof text);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        int name = 0;
        if (sscanf(line, "%lx-%lx %4s %lx %lx:%lx %lu %n", &from, &to, rights, &offset, &major, &minor,
                   &inode, &name) < 7 ||
            from < last || from >= to || !(rights[0] == 'r' || rights[0] == '-')) {
            bad++;
            continue;
        }
        last = to;
        if (strstr(line, "readers"))
            own++;
        if (strstr(line, "[stack]") || strstr(line, "[vdso]") || strstr(line, "[heap]"))
            named++;
        if (from <= (unsigned long)maps && (unsigned long)maps < to)
            own_text += strcmp(rights, "r-xp") == 0;
    }
    same(bad, 0);
    printf("lines of this program: %d, named: %d\n", own, named);
}

static int object(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)info, (void)size, (void)unused;
    objects++;
    return 0;
}

int main(int argc, char **argv)
{
    static char text[1 << 16], again[1 << 16];
    Elf64_auxv_t *vector = (Elf64_auxv_t *)text;
    char link[4096];
    ssize_t length = readlink("/proc/self/exe", link, sizeof link - 1);

    for (int round = 0; round < 3; round++)
        maps();
    for (int i = 0; i < 3 * HOT; i++)
        same(call(SYS_getppid), getppid());
    maps();
    same(own_text, 4);
    link[length] = 0;
    check(argc == 1 && strcmp(strrchr(link, '/'), strrchr(argv[0], '/')) == 0);
    check(strcmp(link, (char *)getauxval(AT_EXECFN)) == 0 || argv[0][0] != '/');
    read_file("/proc/self/cmdline", text, sizeof text);
    check(strcmp(text, argv[0]) == 0);
    read_file("/proc/self/comm", text, sizeof text);
    printf("comm: %s", text);
    length = read_file("/proc/self/auxv", text, sizeof text);
    for (; vector->a_type != AT_NULL; vector++) {
        if (vector->a_type != AT_HWCAP) // the C library has its own idea
            same(getauxval(vector->a_type), vector->a_un.a_val);
        printf("%lu ", (unsigned long)vector->a_type);
    }
    printf("\nauxv %zd, vdso %d, objects ", length, getauxval(AT_SYSINFO_EHDR) != 0);
    dl_iterate_phdr(object, NULL);
    printf("%d\n", objects);
    read_file("/proc/self/status", text, sizeof text);
    static const char *const fields[] = {
        "Name:",   "Umask:",  "State:",  "TracerPid:", "Threads:",    "SigQ:",    "SigPnd:",
        "ShdPnd:", "SigBlk:", "SigIgn:", "CapEff:",    "NoNewPrivs:", "Seccomp:", "Seccomp_filters:"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char *at = strstr(text, fields[i]);
        if (at && strcmp(fields[i], "SigQ:"))
            printf("%.*s\n", (int)strcspn(at, "\n"), at);
    }
    // The file and what is mapped of it are the same, wherever nothing was called.
    int fd = open("/proc/self/exe", O_RDONLY);
    same(pread(fd, text, 64, 0), 64);
    struct dl_find {
        unsigned char bytes[64];
    } *header = (void *)(getauxval(AT_PHDR) - 64);
    same(memcmp(header, text, 64), 0);
    close(fd);
    // Its own memory, as its own file.
    fd = open("/proc/self/mem", O_RDONLY);
    same(pread(fd, again, 64, (off_t)(unsigned long)header), 64);
    same(memcmp(again, text, 64), 0);
    close(fd);
    return finish();
}
