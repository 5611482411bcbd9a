"""Names of files that more than one package knows."""

LOCK_FILE = "writer.lock"
"""Of a directory that is being written (`snn_artsy.recording.lock`)."""
