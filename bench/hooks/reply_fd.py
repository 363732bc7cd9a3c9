import os

from trapline import Call, on

null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


@on("openat")
def serve(call: Call) -> object:
    if call.path == "/dev/null":
        return call.reply_fd(null)
    return None
