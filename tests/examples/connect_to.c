// connect_to PORT ADDRESS HOW: connects, sends a datagram ("send"), or connects by sending ("fastopen").
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    int is_fast = argc > 3 && strcmp(argv[3], "fastopen") == 0;
    int is_send = argc > 3 && strncmp(argv[3], "send", 4) == 0;
    int fd = socket(AF_INET, is_send ? SOCK_DGRAM : SOCK_STREAM, 0);
    long result;

    inet_pton(AF_INET, argv[2], &to.sin_addr);
    if (argc > 3 && strstr(argv[3], "unspec"))
        to.sin_family = AF_UNSPEC; // Which the kernel takes for AF_INET in a datagram.
    if (is_send || is_fast)
        result = sendto(fd, "hello", 5, is_fast ? MSG_FASTOPEN : 0, (struct sockaddr *)&to, sizeof to);
    else
        result = connect(fd, (struct sockaddr *)&to, sizeof to);
    printf("%ld %s\n", result, result < 0 ? strerror(errno) : "");
    return 0;
}
