"""Continual learners: one short file each, one contract (base.py), chosen by name."""

from snn_artsy.learners.aper import APERAdapter
from snn_artsy.learners.artsy_ann import ArtsyANN
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.base import Batch, LabelledBatch, Learner, Prediction, Task
from snn_artsy.learners.builders import Setting, build, build_snn
from snn_artsy.learners.ease import EASE
from snn_artsy.learners.finetune import Finetune
from snn_artsy.learners.joint import JointProbe
from snn_artsy.learners.ranpac import RanPAC
from snn_artsy.learners.simplecil import SimpleCIL
from snn_artsy.registry import LEARNERS

register = LEARNERS.register

__all__ = [
    "EASE",
    "APERAdapter",
    "ArtsyANN",
    "ArtsySNN",
    "Batch",
    "Finetune",
    "JointProbe",
    "LabelledBatch",
    "Learner",
    "Prediction",
    "RanPAC",
    "Setting",
    "SimpleCIL",
    "Task",
    "build",
    "build_snn",
    "register",
]
