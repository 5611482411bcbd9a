"""Numba's decorator for functions of the loop that only compiled code calls."""

from __future__ import annotations

from functools import partial

from numba import njit

# Without the wrappers by which Python and C would call them; to unpack so many arrays from Python's
# objects takes the compiler longer than the functions themselves.
inner = partial(njit, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
