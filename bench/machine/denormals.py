"""Whether this process computes with denormal numbers (below 1.2e-38 in float32), or takes them for zero.

Arithmetic with them is up to a hundred times slower, and frameworks differ in what they do by default. So every worker
sets its processor to flush them before it imports a framework: the threads that a framework starts inherit that.
"""

from __future__ import annotations

import ctypes
import platform
import sys

FLUSHED, KEPT = "flushed", "kept"
_ROOM = 64
"""Bytes: more than ``fenv_t`` has."""
_REGISTERS = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}
"""By processor, on Linux: the place in ``fenv_t`` of the register that decides (MXCSR, FPCR), and its bits: flush to
zero, and on x86 denormals are zero."""


def flush() -> None:
    """Flush them in this thread and in those that it starts; nothing where it is not known how."""
    read = _read()
    if read is not None:
        environment, place, bits = read
        value = int.from_bytes(environment[place : place + 4], "little") | bits
        environment[place : place + 4] = value.to_bytes(4, "little")
        _libm().fesetenv((ctypes.c_char * _ROOM).from_buffer(environment))


def state() -> str | None:
    """``FLUSHED`` or ``KEPT``, of this thread; None: not known."""
    read = _read()
    if read is None:
        return None
    environment, place, bits = read
    return FLUSHED if int.from_bytes(environment[place : place + 4], "little") & bits == bits else KEPT


def _read() -> tuple[bytearray, int, int] | None:
    """The floating-point environment of this thread, with the place and bits that decide."""
    register = _REGISTERS.get(platform.machine().lower()) if sys.platform == "linux" else None
    if register is None:
        return None
    environment = bytearray(_ROOM)
    _libm().fegetenv((ctypes.c_char * _ROOM).from_buffer(environment))
    return environment, *register


def _libm() -> ctypes.CDLL:
    return ctypes.CDLL(None)  # this interpreter is linked with it
