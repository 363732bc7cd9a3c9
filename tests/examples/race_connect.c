// race_connect GOOD BAD ROUNDS: one thread connects to GOOD, another keeps writing BAD into the same address.
// Prints how many connections were made and how many of them ended at BAD.
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile in_port_t good, bad;
static volatile struct sockaddr_in to;
static volatile int ended;

static void *flip(void *unused)
{
    while (!ended) {
        to.sin_port = bad;
        to.sin_port = good;
    }
    return unused;
}

int main(int argc, char **argv)
{
    int made = 0, elsewhere = 0, rounds = atoi(argv[argc - 1]);
    pthread_t thread;

    good = htons(atoi(argv[1]));
    bad = htons(atoi(argv[2]));
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pthread_create(&thread, NULL, flip, NULL);
    for (int i = 0; i < rounds; i++) {
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) {
            made++;
            getpeername(fd, (struct sockaddr *)&peer, &length);
            elsewhere += peer.sin_port == bad;
        }
        close(fd);
    }
    ended = 1;
    pthread_join(thread, NULL);
    printf("%d %d\n", made, elsewhere);
    return 0;
}
