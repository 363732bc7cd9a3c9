// Eight threads that map memory, mark it, look whether it is still theirs, and unmap it.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { threads = 8, rounds = 100, held = 4 };

static void *work(void *argument)
{
    long mine = (long)argument;
    long *piece[held];

    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < held; i++) {
            piece[i] = mmap(NULL, (size_t)(i + 1) * 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                            -1, 0);
            if (piece[i] == MAP_FAILED || *piece[i])
                exit(2);
            *piece[i] = mine * held + i + 1;
        }
        for (int i = 0; i < held; i++) {
            if (*piece[i] != mine * held + i + 1)
                exit(3);
            munmap(piece[i], (size_t)(i + 1) * 8192);
        }
    }
    return NULL;
}

int main(void)
{
    pthread_t thread[threads];

    for (long i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, work, (void *)i);
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    puts("right");
    return 0;
}
