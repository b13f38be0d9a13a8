"""Collection of control steps by policies, in this process or on workers."""
