from trapline import Call, Errno, on


@on("openat")
def hide(call: Call) -> object:
    if call.path == "/nowhere":
        return call.fail(Errno.ENOENT)
    return None
