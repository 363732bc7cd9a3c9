from trapline import Call, on_return


@on_return("getppid")
def look(call: Call) -> object:
    assert call.result
    return None
