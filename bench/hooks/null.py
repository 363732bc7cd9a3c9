from trapline import Call, on


@on("*")
def look(call: Call) -> object:
    return None
