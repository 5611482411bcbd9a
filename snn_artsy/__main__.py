"""``python -m snn_artsy`` is the ``snn-artsy`` command."""

from snn_artsy.cli import main

main()
