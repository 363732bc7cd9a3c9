// A null hook for zpoline: a library that it loads and hands the address of its hook variable to.
typedef long (*call)(long nr, long a, long b, long c, long d, long e, long f);

static call go_on;

static long hook(long nr, long a, long b, long c, long d, long e, long f)
{
    return go_on(nr, a, b, c, d, e, f);
}

int __hook_init(long unused, call *variable)
{
    (void)unused;
    go_on = *variable;
    *variable = hook;
    return 0;
}
