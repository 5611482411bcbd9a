"""Imports matplotlib, also where the user's settings of it are broken.

A notebook's ``!`` commands inherit a back end that need not be installed here, and a matplotlibrc
may be unreadable: matplotlib then fails while it is imported. Figures here need neither. Settings
that work are left alone, since the user's own figures in the same process want them.
"""

from __future__ import annotations

import os
import sys

_SETTINGS = {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}

try:
    import matplotlib
except ImportError:
    raise
except Exception:
    _before = {name: os.environ.get(name) for name in _SETTINGS}
    for _name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[_name]  # half imported
    os.environ.update(_SETTINGS)
    try:
        import matplotlib  # noqa: F401
    finally:
        for _name, _value in _before.items():
            del os.environ[_name]
            if _value is not None:
                os.environ[_name] = _value
