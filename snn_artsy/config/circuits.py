"""Circuits in which silent synapses were counted: the share, and what is known of how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SilentShare:
    """The share of silent synapses that a study found, for `snn.contacts.circuit`.

    None of these sources gives conductances of single receptors that would take the place of
    `snn.receptors`: with every circuit those stay what they are.

    Args:
        share: In [0, 1]; what ``snn.contacts.silent_share`` becomes.
        where, species, age, method: Of the measurement.
        source: Authors and year. doi: Of it.
        read: What the share was taken from: the ``abstract``, a ``legend`` of a figure, a text that
            tells of it (``secondary``), or nowhere (``none``: the source has no number that could
            be read, and the share is our definition).
        not_shown: What the study does not show, and what others say against it.
    """

    share: float
    where: str
    species: str
    age: str
    method: str
    source: str
    doi: str
    read: Literal["abstract", "legend", "secondary", "none"]
    not_shown: str


_VARDALAKI = "Vardalaki, Chung & Harnett 2022", "10.1038/s41586-022-05483-6"
_HUANG = "Huang et al. 2015", "10.1073/pnas.1506488112"
_ISAAC = "Isaac, Crair, Nicoll & Malenka 1997", "10.1016/S0896-6273(00)80267-6"
_WRIGHT = "Wright et al. 2020", "10.1038/s41593-019-0537-6"
_V1 = "principal neurons of visual cortex", "mouse"
_RAT = "thalamocortical inputs, barrel cortex", "rat"
_ACCUMBENS = "medium spiny neurons, nucleus accumbens shell", "rat", "adult"
_MINIMAL = "minimal stimulation, failures at two potentials"
_ADULT_V1 = (
    "the two sources conflict on adult visual cortex: at most 5 % silent by recordings (Huang et "
    "al. 2015), about 25 % by imaging of layer 5 (Vardalaki et al. 2022); recordings may miss "
    "distal filopodia, and imaging shows no current"
)
_LAYERS = (
    "one fraction for all layers: in rat visual cortex the course differs between layers (Rumpel "
    "et al. 2004, doi 10.1152/jn.00443.2003)"
)

CIRCUITS: dict[str, SilentShare] = {
    "l5_adult": SilentShare(
        0.25, "layer 5 pyramidal neurons, primary visual cortex", "mouse", "adult",
        "super-resolution protein imaging of 2,234 synapses: no AMPA receptors", *_VARDALAKI,
        "abstract", f"silence by imaging is putative but for some filopodia; {_ADULT_V1}",
    ),
    "v1_eye_opening": SilentShare(
        0.5, *_V1, "eye opening", _MINIMAL, *_HUANG, "secondary", _LAYERS,
    ),
    "v1_adult": SilentShare(
        0.05, *_V1, "adult", _MINIMAL, *_HUANG, "secondary", f"an upper bound; {_ADULT_V1}",
    ),
    "v1_adult_no_psd95": SilentShare(
        0.5, *_V1, "adult, without PSD-95", _MINIMAL, *_HUANG, "secondary",
        "whether the synapses are the ones that were silent at eye opening",
    ),
    "barrel_p2_5": SilentShare(
        0.5, *_RAT, "P2 to P5", "minimal stimulation and pairing", *_ISAAC, "none",
        "a number: the abstract says a significant proportion, and .5 is our definition",
    ),
    "barrel_p8_9": SilentShare(
        0.0, *_RAT, "P8 to P9", "minimal stimulation and pairing", *_ISAAC, "abstract",
        "other inputs: silent synapses disappear at these ones, as does their potentiation; both "
        "come back in adults after injury (Chung et al. 2017, doi 10.1016/j.celrep.2017.06.018)",
    ),
    "accumbens_saline": SilentShare(
        0.0593, *_ACCUMBENS, _MINIMAL, *_WRIGHT, "legend",
        "a constant baseline: 11.7 % were found after saline and 45 days",
    ),
    "accumbens_cocaine": SilentShare(
        0.2495, *_ACCUMBENS, _MINIMAL, *_WRIGHT, "legend",
        "one day after self-administration; which inputs the synapses belong to",
    ),
    "accumbens_cocaine_45_days": SilentShare(
        0.1053, *_ACCUMBENS, _MINIMAL, *_WRIGHT, "legend",
        "that the others are gone: with their calcium-permeable receptors blocked, 28.4 % are "
        "silent, so most of them have matured",
    ),
}  # fmt: skip
"""Keys of ``snn.contacts.circuit``."""
