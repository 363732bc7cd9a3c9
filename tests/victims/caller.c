// Does what its arguments say, one after the other, and prints a line for each.
//
//   caller 'sys 39' 'sys 257 -100 s:/etc/hosts 0' 'cat $'
//
// sys NR ARG...    a system call; prints its result, or minus the errno
// int80 NR ARG...  the same by `int $0x80`
// cat FD           what can be read from a descriptor
// cloexec FD       1 when it is close-on-exec
// dump N           the first N bytes of the last b: or r: argument, in hex
// fill             opens descriptors until no more fit
// room N           raises the limit of open files by N
// thread CMD, fork CMD, vfork CMD    the rest of the word there; waits for it
// exec WORD...     replaces the program by itself with other commands, '_' for a space within one
// tid              prints 1 when the thread id differs from the process id
// wait FD          reads one byte
// stop             stops itself
// exit N
//
// An ARG is a number, $ (the last result), or memory: s:TEXT a string, b:N zeroed bytes, h:HEX bytes, r:TEXT
// read-only, e:TEXT a string whose NUL is the last mapped byte, u:TEXT the same without a NUL, c:TEXT a
// string over the edge of two mapped pages, p: an address where nothing is mapped, l:N a string of N letters,
// x:TEXT a string with \xHH escapes.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { page = 4096 };

static char *program;
static long last;
static unsigned char *buffer;

// Below 4 GiB, so that `int $0x80` can name it; followed by a page that cannot be read.
static unsigned char *pages(size_t size)
{
    static unsigned long next = 0x20000000;
    size_t length = (size + page - 1) / page * page + page;
    unsigned char *at =
        mmap((void *)next, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

    if (at == MAP_FAILED)
        abort();
    mprotect(at + length - page, page, PROT_NONE);
    next += length + page;
    return at;
}

static long argument(const char *word)
{
    const char *text = word + 2;
    size_t length = strlen(word) < 2 ? 0 : strlen(text);
    unsigned char *at;

    if (word[0] == '$')
        return last;
    if (!word[0] || word[1] != ':')
        return (long)strtoull(word, NULL, 0);
    switch (word[0]) {
    case 's':
        at = pages(length + 1);
        memcpy(at, text, length + 1);
        return (long)at;
    case 'x':
        at = pages(length + 1);
        for (unsigned char *to = at; *text; to++) {
            unsigned byte = (unsigned char)*text++;
            if (byte == '\\' && sscanf(text, "x%2x", &byte) == 1)
                text += 3;
            *to = (unsigned char)byte;
        }
        return (long)at;
    case 'b':
        return (long)(buffer = pages(strtoul(text, NULL, 0)));
    case 'h':
        at = pages(length);
        for (size_t i = 0; i < length / 2; i++)
            sscanf(text + 2 * i, "%2hhx", &at[i]);
        return (long)at;
    case 'r':
        buffer = at = pages(page);
        memcpy(at, text, length + 1);
        mprotect(at, page, PROT_READ);
        return (long)at;
    case 'e':
        at = pages(page) + page - length - 1;
        memcpy(at, text, length + 1);
        return (long)at;
    case 'u':
        at = pages(page) + page - length;
        memcpy(at, text, length);
        return (long)at;
    case 'c':
        at = pages(2 * page) + page - 3;
        memcpy(at, text, length + 1);
        return (long)at;
    case 'p':
        return (long)(pages(page) + page);
    case 'l':
        at = pages(strtoul(text, NULL, 0) + 1);
        memset(at, 'a', strtoul(text, NULL, 0));
        return (long)at;
    default:
        abort();
    }
}

static long by_int80(const long *a)
{
#if defined(__x86_64__)
    long result;
    __asm__ volatile("push %%rbp\n\tmov %[sixth], %%rbp\n\tint $0x80\n\tpop %%rbp"
                     : "=a"(result)
                     : "a"(a[0]), "b"(a[1]), "c"(a[2]), "d"(a[3]), "S"(a[4]), "D"(a[5]), [sixth] "r"(a[6])
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
#else
    long result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
    return result == -1 ? -errno : result;
#endif
}

static void run(char *command);

static void *in_thread(void *command)
{
    run(command);
    return NULL;
}

static void show(long value)
{
    printf("%ld\n", value);
}

static void do_cat(long fd)
{
    char text[4096];
    ssize_t got;

    while ((got = read((int)fd, text, sizeof text)) > 0)
        fwrite(text, 1, (size_t)got, stdout);
    if (got < 0)
        printf("cannot read: %d", errno);
    puts("");
}

static void do_exec(char *rest)
{
    char *argv[34] = {program}, *save;
    int count = 1;

    for (char *word = strtok_r(rest, " ", &save); word && count < 33; word = strtok_r(NULL, " ", &save)) {
        for (char *at = word; (at = strchr(at, '_'));)
            *at = ' ';
        argv[count++] = word;
    }
    argv[count] = NULL;
    fflush(stdout);
    execv(program, argv);
    show(-errno);
}

static void do_child(const char *kind, char *rest)
{
    int status;

    fflush(stdout);
    pid_t child = kind[0] == 'v' ? vfork() : fork();
    if (child == 0) {
        run(rest);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, &status, 0);
}

static void run(char *command)
{
    char *save, *rest = strchr(command, ' ');
    long a[7] = {0};
    int count = 0;

    rest = rest ? rest + 1 : command + strlen(command);
    if (strncmp(command, "sys ", 4) == 0 || strncmp(command, "int80 ", 6) == 0) {
        bool old = command[0] == 'i';
        for (char *word = strtok_r(rest, " ", &save); word && count < 7; word = strtok_r(NULL, " ", &save))
            a[count++] = argument(word);
        if (old) {
            last = by_int80(a);
        } else {
            last = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
            if (last == -1)
                last = -errno;
        }
        show(last);
    } else if (strncmp(command, "cat ", 4) == 0) {
        do_cat(argument(rest));
    } else if (strncmp(command, "cloexec ", 8) == 0) {
        show(fcntl((int)argument(rest), F_GETFD));
    } else if (strncmp(command, "dump ", 5) == 0) {
        for (long i = 0; i < atol(rest); i++)
            printf("%02x", buffer[i]);
        puts("");
    } else if (strncmp(command, "fill", 4) == 0) {
        struct rlimit few = {64, 64};
        setrlimit(RLIMIT_NOFILE, &few);
        while (open("/dev/null", O_RDONLY) >= 0)
            ;
    } else if (strncmp(command, "thread ", 7) == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, in_thread, rest);
        pthread_join(thread, NULL);
    } else if (strncmp(command, "fork ", 5) == 0 || strncmp(command, "vfork ", 6) == 0) {
        do_child(command, rest);
    } else if (strncmp(command, "exec ", 5) == 0) {
        do_exec(rest);
    } else if (strncmp(command, "tid", 3) == 0) {
        show(syscall(SYS_gettid) != getpid());
    } else if (strncmp(command, "wait ", 5) == 0) {
        char byte;
        show(read((int)argument(rest), &byte, 1));
    } else if (strncmp(command, "stop", 4) == 0) {
        raise(SIGSTOP);
    } else if (strncmp(command, "exit ", 5) == 0) {
        fflush(stdout);
        _exit(atoi(rest));
    } else {
        fprintf(stderr, "caller: what is '%s'?\n", command);
        exit(99);
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    program = argv[0];
    for (int i = 1; i < argc; i++)
        run(argv[i]);
    return 0;
}
