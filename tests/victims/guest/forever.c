// Says that it has begun, and never ends.
#include <unistd.h>

int main(void)
{
    if (write(1, "begun\n", 6) != 6)
        return 1;
    for (volatile int i = 0;; i++)
        ;
}
