// Makes one call from under several functions, on a stack that only its tables tell about.
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile int depth;

__attribute__((noinline)) int innermost(int n)
{
    char text[64];

    memset(text, n, sizeof text);
    write(-1, text, 1);
    return text[n & 7] + depth;
}

__attribute__((noinline)) int middle(int n)
{
    volatile char room[n + 100]; // the frame's size is not known before

    room[0] = (char)n;
    return innermost(n) + room[0];
}

__attribute__((noinline)) static int outer(int n)
{
    return n ? outer(n - 1) + 1 : middle(3) + 1;
}

static void handler(int number)
{
    depth = innermost(number);
}

int main(void)
{
    depth = outer(3);
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    return 0;
}
