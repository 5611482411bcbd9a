"""The spiking learner of a finished run as a NIR graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from snn_artsy.checks import ConfigError
from snn_artsy.learners.spiking_subnetworks import SpikingSubnetworks
from snn_artsy.recording.reader import Run
from snn_artsy.runs.trained import load_trained
from snn_artsy.synapses.nir_graph import nir_graph


def write_nir(run: Run, path: Path) -> None:
    """Write the contacts and neurons of all sub-networks of ``artsy_snn``; the metadata of
    ``neurons`` hold the label that each neuron votes for (``class``) and the classes' names.

    Raises:
        ConfigError: The run has no such learner, or a graph cannot hold what it is made of.
    """
    trained = load_trained(run.path.parent)
    if "artsy_snn" not in trained:
        raise ConfigError("to", "nir holds spiking sub-networks: the run has no artsy_snn")
    learner = trained["artsy_snn"].learner
    assert isinstance(learner, SpikingSubnetworks)
    if learner.config.inhibition.source != "balance":
        raise ConfigError(
            "snn.inhibition.source", "a NIR graph has no inhibitory neurons here: use balance"
        )
    graph = nir_graph(learner.layers)
    neurons = graph.nodes["neurons"]
    n_classes = len(neurons.tau) // learner.config.neuron.per_class
    labels = np.repeat(np.arange(n_classes), learner.config.neuron.per_class)
    names = "\n".join(trained.class_names[:n_classes])
    neurons.metadata |= {"class": labels, "class_names": names}
    import nir

    nir.write(path, graph)
