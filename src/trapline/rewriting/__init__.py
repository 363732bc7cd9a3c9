"""Planning how a hot ``syscall`` instruction becomes a jump: pure functions on bytes.

The agent in the program asks; the supervisor answers with a :class:`~trapline.rewriting.windows.Plan`, put into
bytes by :mod:`~trapline.rewriting.wire`; the agent chooses where the block goes and writes it. Nothing here
touches the program.

::

    window of the site                       block (anywhere in reach)
    +------------------------------+         +--------------------------------------+
    | before | syscall | after     |   -->   | copy of before                       |
    +------------------------------+         | gate ... syscall; mov $next, %rcx    |
    | jmp rel32      | cc cc ...   |         | copy of after                        |
    +------------------------------+         | jmp back to the window's end         |
                                             +--------------------------------------+

iced-x86 takes its time to import, so it is loaded at the first plan; what was planned for a file is kept for later
sessions (:mod:`~trapline.rewriting.store`).
"""
