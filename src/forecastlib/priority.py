"""Standing back for other work as much as a process was told to."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_AUTOGROUP = Path("/proc/self/autogroup")


def keep_niceness() -> None:
    """Let a session stand back as much as the process that leads it.

    Linux shares the processor between sessions first where autogroups are in use, and looks at niceness only within
    one. A process at low priority that leads a session of its own, as kernels of notebooks do, would get as much as
    the service beside it. For a process that leads none, and elsewhere, nothing changes: its session is not its own.
    """
    if os.name != "posix" or os.getsid(0) != os.getpid():
        return
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness > 0 and _AUTOGROUP.exists():
        with suppress(OSError):  # refused in some containers, where sessions are not what shares the processor
            _AUTOGROUP.write_text(str(niceness))
