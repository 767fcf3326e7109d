"""What tini's tests use of PyPI's module of this name."""

import ctypes


def set_child_subreaper(on):
    ctypes.CDLL(None).prctl(36, on, 0, 0, 0)
