// Survives some faults: of what it reads, it believes that it is there, and of what it writes, that it
// arrives.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
    char name[64] = "";
    FILE *file = fopen("/etc/hostname", "r");

    if (!fgets(name, sizeof name, file)) // crashes without a file
        name[0] = 0;
    fclose(file);
    if (access("/etc/passwd", R_OK)) // hangs
        pause();
    if (write(1, "hello\n", 6) < 0) // takes a part for all of it
        return 3;
    return 0;
}
