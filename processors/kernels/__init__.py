"""The kernels: what a sample means, one scalar source for numba and the interpreter, with the same bits. The folder's rules are in
`compiled`."""
