"""What has to be done before any test."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # One of several processes that share the cores, each of which would take all of them. Libraries
    # read it once, when they are imported, and the commands that tests start inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from standin_device import register

register()
