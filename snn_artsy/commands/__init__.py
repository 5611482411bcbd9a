"""Commands of the command line: their arguments, and what each of them does.

torch, matplotlib and h5py are imported by the commands that need them, so that ``--help`` is quick.
"""

from snn_artsy.commands.parsers import PROG, build_parsers

__all__ = ["PROG", "build_parsers"]
