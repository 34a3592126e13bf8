"""Nothing can be polled on this board: enough for asyncio to be imported."""

POLLIN, POLLOUT, POLLERR, POLLHUP = 1, 4, 8, 16


class poll:
    def register(self, stream, events=0):
        pass

    def unregister(self, stream):
        pass

    def ipoll(self, ms=-1):
        return ()
