"""Image data sets, alone and several as one, and the stream of tasks cut from them."""

from snn_artsy.data.arrays import FeatureSplit, from_arrays
from snn_artsy.data.folders import FolderSplit
from snn_artsy.data.sources import (
    ArraySplit,
    ImageSource,
    ImageSplit,
    load_source,
)
from snn_artsy.data.stream import SampleSet, TaskSplit, TaskStream, build_stream
from snn_artsy.registry import DATA

register = DATA.register

__all__ = [
    "ArraySplit",
    "FeatureSplit",
    "FolderSplit",
    "ImageSource",
    "ImageSplit",
    "SampleSet",
    "TaskSplit",
    "TaskStream",
    "build_stream",
    "from_arrays",
    "load_source",
    "register",
]
