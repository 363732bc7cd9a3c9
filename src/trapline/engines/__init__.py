"""Ways of catching system calls, behind one interface."""
