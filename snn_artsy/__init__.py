"""SNN-Artsy: continual learning with silent synapses between a frozen ViT and its sub-networks.

``import snn_artsy as sa`` gives a script or a notebook all that it usually needs::

    result = sa.run(learners=["simplecil", "artsy_snn"], data={"n_tasks": 5})
    with result.open() as run:
        sa.plots.conversion_counts(run)

Names are imported when they are used, so that a recording is read and drawn without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from snn_artsy import data as data
    from snn_artsy import learners as learners
    from snn_artsy import plots as plots
    from snn_artsy import protocols as protocols
    from snn_artsy import rules as rules
    from snn_artsy import synapses as synapses
    from snn_artsy.api import available as available
    from snn_artsy.api import compare as compare
    from snn_artsy.api import resume as resume
    from snn_artsy.api import run as run
    from snn_artsy.api import study as study
    from snn_artsy.backbone.any_module import features as features
    from snn_artsy.config import RunConfig as RunConfig
    from snn_artsy.evaluation import metrics as metrics
    from snn_artsy.recording import open_run as open_run
    from snn_artsy.runs.trained import load_trained as load_trained
    from snn_artsy.stepwise import stream as stream
    from snn_artsy.synapses import SilentSynapseLayer as SilentSynapseLayer
    from snn_artsy.synapses import SpikeEncoder as SpikeEncoder

_MODULES = {
    **{
        name: f"snn_artsy.{name}"
        for name in ("data", "learners", "plots", "protocols", "rules", "synapses")
    },
    "metrics": "snn_artsy.evaluation.metrics",
}
_NAMES = {
    **dict.fromkeys(("available", "compare", "resume", "run", "study"), "snn_artsy.api"),
    "RunConfig": "snn_artsy.config",
    "features": "snn_artsy.backbone.any_module",
    "load_trained": "snn_artsy.runs.trained",
    "open_run": "snn_artsy.recording",
    "stream": "snn_artsy.stepwise",
    "SilentSynapseLayer": "snn_artsy.synapses",
    "SpikeEncoder": "snn_artsy.synapses",
}

__all__ = ["__version__", *sorted(_MODULES), *sorted(_NAMES)]


def __getattr__(name: str) -> Any:
    """Import what is asked for; it stays here then (PEP 562)."""
    if name in _MODULES:
        value: Any = import_module(_MODULES[name])
    elif name in _NAMES:
        value = getattr(import_module(_NAMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
