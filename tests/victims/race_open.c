// Opens a path COUNT times while another thread changes it between two that differ in one byte.
// Prints how often the first byte read was 'f', how often another, and how often the open was refused.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[4096];
static char **names;
static atomic_int done;

static void *swap(void *unused)
{
    size_t length = strlen(names[1]);

    for (unsigned turn = 0; !atomic_load(&done); turn++)
        memcpy(path, names[1 + turn % 2], length);
    return unused;
}

int main(int argc, char **argv)
{
    int fair = 0, other = 0, refused = 0;
    pthread_t thread;

    if (argc != 4)
        return 2;
    names = argv;
    strcpy(path, argv[1]);
    pthread_create(&thread, NULL, swap, NULL);
    for (int i = 0; i < atoi(argv[3]); i++) {
        char first = 0;
        int fd = open(path, O_RDONLY);
        if (fd < 0) {
            refused++;
            continue;
        }
        if (read(fd, &first, 1) == 1 && first == 'f')
            fair++;
        else
            other++;
        close(fd);
    }
    atomic_store(&done, 1);
    pthread_join(thread, NULL);
    printf("%d %d %d\n", fair, other, refused);
    return 0;
}
