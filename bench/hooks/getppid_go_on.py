from trapline import Call, on


@on("getppid")
def look(call: Call) -> object:
    return None
