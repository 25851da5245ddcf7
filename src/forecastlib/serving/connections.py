"""Connections that do not wait for ever: a client that says nothing, or takes nothing, gives its place to others."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.auto import AutoHTTPProtocol


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type] # which of its classes it is, uvicorn decides
    """A connection that is closed if its client neither sends a request nor takes the answer.

    uvicorn itself limits only how long a connection may be idle after an answer: one that sends a byte now and then
    would stay open, and enough of them would leave no room for others.

    Attributes
    ----------
    patience : float
        Seconds between two looks at the connection. It is closed if no request has come whole since the last look, and
        none is being answered; or if its client has not taken an answer from one look to the next.
    """

    patience: float

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to look after it, as asyncio has it."""
        super().connection_made(transport)
        self._seen: object = None
        self._next_look = self.loop.call_later(self.patience, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look after it no more, as asyncio has it."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        request = self.cycle  # the one that came last, None before the first
        answered = request is None or request.response_complete
        if request is self._seen and (answered or self.flow.write_paused):
            self.transport.abort()  # close() would wait until the client has taken all that is for it
            return
        self._seen = request
        self._next_look = self.loop.call_later(self.patience, self._look)


def impatient(patience: float) -> type[asyncio.Protocol]:
    """Return the class of connections with this patience, as uvicorn takes it for ``http``."""
    return type("ImpatientConnection", (Connection,), {"patience": patience})
