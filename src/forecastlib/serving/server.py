"""Running the service."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from forecastlib.errors import ConfigError
from forecastlib.serving.app import create_app
from forecastlib.serving.connections import impatient
from forecastlib.serving.keys import KeyFile
from forecastlib.serving.settings import Settings, is_loopback

_GRACE = 10
"""Seconds that requests get to be answered when the service is stopped."""


def serve(settings: Settings, announce: Callable[[str], None] = print) -> None:
    """Serve until SIGTERM or SIGINT; then answer what has been asked, and finish or end what is training.

    Parameters
    ----------
    settings
        Of the service.
    announce
        Called with the address once it listens.

    Raises
    ------
    ConfigError
        If it were to listen beyond this machine without keys, or the file of keys that was named is not there.
    """
    if settings.keys is not None and not settings.keys.is_file():
        raise ConfigError(f"expected a file of keys at {settings.keys}; make it with: forecastlib keys add NAME")
    if not is_loopback(settings.host) and not KeyFile(settings.keys_file).all():
        raise ConfigError(
            f"expected keys before listening at {settings.host}, beyond this machine; make one with: "
            "forecastlib keys add NAME"
        )
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        access_log=False,  # the service has a log of its own
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        http=impatient(settings.client_seconds),
    )
    listening = config.bind_socket()
    # The event loop does so for sockets that it opens itself: without it, each answer waits 40 ms for the client's ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.listen(config.backlog)  # whoever connects from now on waits for an answer, and is not refused
    host, port = listening.getsockname()[:2]
    announce(f"forecastlib serves at http://{f'[{host}]' if ':' in host else host}:{port}")
    uvicorn.Server(config).run(sockets=[listening])
