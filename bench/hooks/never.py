from trapline import Call, Errno, on


@on("swapon", "acct", "init_module")
def refuse(call: Call) -> object:
    return call.fail(Errno.EPERM)
