"""The one registry of what can be chosen by name: learners, data sources, rules, figures and more.

What the package brings is named here and imported when it is used, so that lists of names cost
nothing. Others add their own in Python (`Registry.register`), on the command line
(``module:Name``), or by an installed package with an entry point in ``snn_artsy.<kind>``::

    [project.entry-points."snn_artsy.learners"]
    mine = "my_package:Mine"

Importing a module runs it. A name that stands in a file is therefore looked up among what is known
already, and never imported.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from snn_artsy.checks import ConfigError
from snn_artsy.files import file_sha256

Thing = TypeVar("Thing")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Entry:
    """One thing that can be chosen.

    Args:
        target: The thing; of what the package brings, ``module:name``.
        label: What figures call it, or one line about it.
        config: Class of its options; of what the package brings, ``module:name``.
        origin: ``module:name`` of what was added; empty for what the package brings.
    """

    target: Any
    label: str = ""
    config: type | str | None = None
    origin: str = ""


class Registry(Mapping[str, Any]):
    """What can be chosen of one kind, by name; a value is imported when it is asked for.

    Args:
        kind: What many are called; entry points are of the group ``snn_artsy.<kind>``.
        one: What one is called.
        entries: What the package brings: name -> (``module:name``, label).
        parts: What a class of this kind must have; empty: it is something that is called.
    """

    def __init__(
        self,
        kind: str,
        one: str,
        entries: Mapping[str, tuple[str, ...]],
        parts: tuple[str, ...] = (),
    ) -> None:
        self.kind, self.one, self.parts = kind, one, parts
        self.entries = {name: Entry(*given) for name, given in entries.items()}
        self._spelled: dict[str, str] = {}  # module:name -> the name that it is known by
        self._reserved: set[str] = set()
        self._points: list[EntryPoint] | None = None

    # --- looking up

    def __iter__(self) -> Iterator[str]:
        yield from self.entries
        known = {*self.entries, *self._spelled}
        yield from (p.name for p in self._installed() if not {p.name, _spelling(p)} & known)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.name_of(name) is not None

    def __getitem__(self, name: str) -> Any:
        known = self.name_of(name)
        if known is None:
            raise KeyError(name)
        target = self.entries[known].target
        return _imported(target) if isinstance(target, str) else target

    def name_of(self, given: str) -> str | None:
        """The name that something is known by: its own, or that of what ``module:name`` stands for.

        What an installed package declares is imported when its name is asked for.

        Raises:
            ConfigError: An installed package declares it, and it cannot be imported or used.
        """
        if given in self.entries:
            return given
        if given in self._spelled:
            return self._spelled[given]
        for point in self._installed():
            if given in (point.name, _spelling(point)):
                return self.load(_spelling(point), point.name)
        return None

    def require(self, key: str, given: str, *also: str) -> str:
        """`name_of` what stands under a configuration's ``key``.

        Args:
            also: Other values that the key can have.

        Raises:
            ConfigError: Nothing is known by this name, with what is.
        """
        name = self.name_of(given)
        if name is None and ":" in given:
            raise ConfigError(
                key,
                f"{given!r} is not loaded, because loading it runs its module; if you trust "
                f"that, name it on the command line (--own {given}), or import it in Python",
            )
        if name is None:
            raise ConfigError(
                key,
                f"{given!r} cannot be used; choose from {', '.join((*self, *also))}, or "
                f"name a {self.one} of your own as module:Name on the command line (--own "
                "module:Name where a file names it)",
            )
        return name

    def label(self, name: str) -> str:
        """What figures call it; the name itself, in words, where nothing is known of it."""
        entry = self.entries.get(name)
        return (entry.label if entry else "") or name.replace("_", " ")

    def origin(self, name: str) -> str:
        """``module:name`` of what was added; empty for what the package brings or nobody knows."""
        entry = self.entries.get(self._spelled.get(name, name))
        return entry.origin if entry else ""

    def source_sha256(self, name: str) -> str:
        """SHA-256 of the file that defines it; ``unknown`` without one, as for a class that was
        typed into a notebook. What that file imports is not part of it."""
        try:
            file = inspect.getsourcefile(self[name])
            return file_sha256(Path(file or ""))
        except (TypeError, OSError):
            return "unknown"

    def options(self, name: str) -> type | None:
        """The class of options of something; None without."""
        entry = self.entries.get(self._spelled.get(name, name))
        config = entry.config if entry else None
        return _imported(config) if isinstance(config, str) else config

    def all_options(self) -> dict[str, type]:
        """Classes of options of all that was added or is installed, by name."""
        for point in self._installed():
            with suppress(ConfigError):  # a broken package is in the way when it is asked for
                self.name_of(point.name)
        return {name: cls for name in self.entries if (cls := self.options(name)) is not None}

    # --- adding

    def register(
        self, name: str, *, label: str = "", config: type | None = None
    ) -> Callable[[Thing], Thing]:
        """Decorator: let configurations and commands choose what follows by ``name``.

        Args:
            name: Letters, digits, ``_`` and ``-``; it is part of file names.
            label: What figures call it, or one line about it.
            config: Dataclass of its options, all with defaults; they are keys of a configuration,
                in a section that is called ``name``; of a protocol, its parameters.

        Raises:
            ConfigError: The name is taken or cannot be used, or it is no such thing.
        """
        if not isinstance(name, str):
            raise ConfigError(self.kind, "register takes a name: @register('mine')")

        def added(thing: Thing) -> Thing:
            if not _NAME.fullmatch(name) or name in self._reserved:
                raise ConfigError(
                    self.kind,
                    f"{name!r} cannot be registered; give a name of letters, digits, "
                    "_ and - that is no key of every configuration",
                )
            origin = f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '')}"
            self._add(name, Entry(thing, label, _checked_options(name, config), origin))
            return thing

        return added

    def load(self, typed: str, name: str | None = None) -> str:
        """Import what the user named as ``module:Name``: the name that it is known by now.

        Importing a module runs it: never pass what stands in a file.

        Args:
            name: What it is called if its module does not register it; default: as ``typed``.

        Raises:
            ConfigError: There is no such module or name in it, or it is not of this kind.
        """
        target = _found(self.kind, typed)
        known = next((n for n, entry in self.entries.items() if entry.target is target), None)
        if known is None:
            known = name or typed
            self._add(known, Entry(target, origin=typed))
        self._spelled[typed] = known
        return known

    def reserve(self, names: Iterable[str]) -> None:
        """Names that nothing can be registered by."""
        self._reserved |= set(names)

    def _add(self, name: str, entry: Entry) -> None:
        self._check(entry.origin, entry.target)
        old = self.entries.get(name)
        # a cell of a notebook that is run again replaces what it has registered
        if old is not None and old.origin != entry.origin:
            whose = old.origin or "part of snn_artsy"
            raise ConfigError(self.kind, f"{name!r} is taken ({whose}); give another name")
        self.entries[name] = entry
        self._spelled[entry.origin] = name

    def knows(self, target: Any) -> bool:
        """Whether this very thing was added."""
        return any(entry.target is target for entry in self.entries.values())

    def fits(self, target: Any) -> bool:
        """Whether a class has all parts of this kind."""
        return bool(self.parts) and isinstance(target, type) and not self._missing(target)

    def _missing(self, target: type) -> list[str]:
        unwritten = getattr(target, "__abstractmethods__", ())
        return [part for part in self.parts if part in unwritten or not hasattr(target, part)]

    def _check(self, origin: str, target: Any) -> None:
        """What is called later must be of this kind, not just anything that can be called."""
        if not self.parts:
            if not callable(target):
                raise ConfigError(self.kind, f"{origin!r} cannot be called; give a function")
            return
        if not isinstance(target, type):
            raise ConfigError(self.kind, f"{origin!r} is no class; give that of a {self.one}")
        if missing := self._missing(target):
            raise ConfigError(
                self.kind,
                f"{origin!r} is no {self.one}, it has no {', '.join(missing)}; see "
                '"Add your own" in the documentation',
            )

    def _installed(self) -> list[EntryPoint]:
        if self._points is None:  # reading what is installed takes some 20 ms
            self._points = list(entry_points(group=f"snn_artsy.{self.kind}"))
        return self._points


def _spelling(point: EntryPoint) -> str:
    return point.value.replace(" ", "")


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def _found(key: str, typed: str) -> Any:
    """What the user named as ``module:Name``."""
    module, _, attribute = typed.partition(":")
    if not (module and attribute):
        raise ConfigError(key, f"{typed!r} cannot be used; give module:Name")
    try:
        return _imported(typed)
    except Exception as error:  # whatever the module does when it is run
        raise ConfigError(
            key,
            f"{typed!r} cannot be imported ({type(error).__name__}: {error}); the module "
            "must be one that Python finds, for example by PYTHONPATH=.",
        ) from error


def _checked_options(name: str, config: type | None) -> type | None:
    if config is not None:
        try:
            config()
        except TypeError as error:
            raise ConfigError(
                name,
                f"{config.__name__} is no class of options ({error}); give every one of "
                "them a default",
            ) from error
        if not hasattr(config, "__dataclass_fields__"):
            raise ConfigError(name, f"{config.__name__} is no dataclass; make it one")
    return config


def load(typed: str) -> None:
    """Import what the user named as ``module:Name``, of whatever kind: its module says which by
    registering it, and of a class its parts do.

    Raises:
        ConfigError: It cannot be imported, or is of no kind.
    """
    target = _found("own", typed)
    for registry in KINDS.values():
        if registry.knows(target) or registry.fits(target):
            registry.load(typed)
            return
    raise ConfigError(
        "own",
        f"{typed!r} is no learner and no rule, and its module registers it as nothing else; "
        'see "Add your own" in the documentation',
    )


TORCHVISION = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "mnist": "MNIST",
    "svhn": "SVHN",
}
"""Data sets of torchvision: name -> its class there."""


LEARNERS = Registry(
    "learners",
    "learner",
    {
        name: (f"snn_artsy.learners.builders:{name}", label)
        for name, label in {
            "simplecil": "SimpleCIL",
            "finetune_linear": "fine-tuned head",
            "finetune_adapter": "fine-tuned adapter",
            "joint": "joint linear probe",
            "er": "experience replay",
            "derpp": "DER++",
            "icarl": "iCaRL",
            "aper_adapter": "APER",
            "ease": "EASE",
            "ranpac": "RanPAC",
            "artsy_ann": "Artsy ANN",
            "artsy_ann_lda": "Artsy ANN, LDA gates",
            "artsy_ann_ridge": "Artsy ANN, ridge gates",
            "artsy_ann_no_gates": "Artsy ANN, no gates",
            "artsy_ann_e0": "Artsy ANN, E_0 only",
            "artsy_ann_subnetworks": "Artsy ANN, without h_0",
            "artsy_ann_gate_alone": "Artsy ANN, gate alone",
            "artsy_best": "Artsy (best gate)",
            "whitened_ncm": "whitened class mean",
            "binary_mean": "binary class mean",
            "nested_mean": "nested binary means",
            "mean_field": "mean field of Artsy SNN",
        }.items()
    }
    | {"artsy_snn": ("snn_artsy.learners.builders:build_snn", "Artsy SNN")},
    parts=("learn", "predict", "state_dict", "checkpoint", "restore", "report"),
)
"""Called with a `snn_artsy.learners.Setting`; what is added is a class of learners."""

DATA = Registry(
    "data",
    "data source",
    {name: (f"snn_artsy.data.sources:{name}", "") for name in
     ("digits", "imagefolder", "tiny_imagenet", "cub200")}
    | {name: ("snn_artsy.data.sources:unsplit", "") for name in ("imagenet_a", "imagenet_r")}
    | {"sequence": ("snn_artsy.data.sequence:sequence", "")}
    | {name: ("snn_artsy.data.sources:torchvision", "") for name in TORCHVISION},
)  # fmt: skip
"""Called with a `snn_artsy.config.DataConfig`, gives a `snn_artsy.data.ImageSource`."""

RULES = Registry(
    "rules",
    "rule",
    {
        "gated": ("snn_artsy.rules.gated:GatedSTDP", "NMDA-gated unsilencing"),
        "pair": ("snn_artsy.rules.pair:PairSTDP", "pair-based STDP"),
        "triplet": ("snn_artsy.rules.triplet:TripletSTDP", "triplet STDP"),
        "voltage": ("snn_artsy.rules.voltage:VoltageSTDP", "voltage-based plasticity"),
        "calcium": ("snn_artsy.rules.calcium:CalciumRule", "calcium-based plasticity"),
        "error": ("snn_artsy.rules.error:ErrorDriven", "error-driven unsilencing"),
        "filopodium_spine": (
            "snn_artsy.rules.filopodium_spine:FilopodiumSpine",
            "STDP of filopodia and spines",
        ),
    },
    parts=("noisy", "start", "step", "presentation", "sped_up"),
)
"""Classes with the parts of `snn_artsy.rules.Rule`."""

_SHOWN = {
    "stdp_window": "change of a contact against the interval of a spike pair",
    "pairing_frequency": "pairings at 0.1 to 50 Hz: triplet and voltage rules, pair-based control",
    "lead_lag": "inputs of one rate before and after a teacher: order alone decides what converts",
    "calcium_window": "the calcium rule: 60 pairings at 1 Hz against the lag of a pair",
    "bimodal_weights": "1,000 Poisson inputs drive a neuron: weights gather at both bounds",
    "filopodium_spine": "a first memory and a second one: filopodia and spines beside plain STDP",
    "capacity": "patterns that one-bit contacts hold: silent share, protection, replay, theory",
    "protection": "an old memory and a new pairing, with and without silent contacts",
    "critical_period": "what pairing can still unsilence, by circuit and age",
    "probe_silencing": "test stimulation takes AMPA receptors away; pairing brings them back",
    "re_silencing": "a cue silences matured contacts, which mature once more",
    "nmda_gate": "silent contacts beside functional ones: spikes, magnesium, clamp, constant gate",
    "mg_block": "magnesium block of NMDA receptors; currents of silent and mature contacts",
    "silent_synapse_pairing": "EPSCs at -70 and +40 mV before and after pairing, with controls",
    "minimal_stimulation": "share of silent contacts from failures at -70 and +40 mV",
    "retention": "consolidation on and off, old sub-networks plastic or not",
    "lesion": "functional contacts of a trained run cut, at random and targeted",
    "pharmacology": "APV in training, NBQX at test, on a trained run",
}
ENCODERS = Registry(
    "encoders",
    "code",
    {name: (f"snn_artsy.synapses.encoding:{name}", "") for name in
     ("poisson", "regular", "current", "latency")},
)  # fmt: skip
"""Called with a `snn_artsy.synapses.encoding.Presentation`, gives spikes [T, B, 2D]."""

NEURONS = Registry(
    "neurons",
    "neuron",
    {name: (f"snn_artsy.synapses.neurons:{name}", "") for name in ("leaky", "synaptic")},
)
"""Called with a `snn_artsy.config.NeuronConfig`, the step (ms) and thresholds [n_post], gives
snnTorch's Leaky, Lapicque or Synaptic without a reset."""

PROTOCOLS = Registry(
    "protocols",
    "protocol",
    {
        name.replace("_", "-"): (
            f"snn_artsy.protocols.{name}:{name}",
            label,
            f"snn_artsy.protocols.{name}:Parameters",
        )
        for name, label in _SHOWN.items()
    }
    | {
        # a module of this name would be in the way of the function `snn_artsy.protocols.pairing`
        "pairing": (
            "snn_artsy.protocols.own_trains:own_trains",
            "contacts between spike trains of your own, by any rule",
            "snn_artsy.protocols.own_trains:Parameters",
        )
    },
)  # fmt: skip
"""Called with a `snn_artsy.protocols.Session`, and with an instance of the class of its parameters
where it has one, gives a `snn_artsy.protocols.Outcome`."""

FIGURES = Registry(
    "figures",
    "figure",
    {
        name: (f"snn_artsy.plots.{module}:{name}", "")
        for name, module in {
            "conversion_counts": "conversion",
            "conversion_rate": "conversion",
            "conversion_raster": "conversion",
            "wake_and_sleep": "wake_and_sleep",
            "silent_survival": "synapses",
            "state_flow": "synapses",
            "transition_flow": "synapses",
            "ampa_occupancy": "conversion",
            "occupancy_before_after": "electrode",
            "epsc_averages": "electrode",
            "ampa_nmda_ratio": "electrode",
            "release_failures": "electrode",
            "spike_triggered_membrane": "electrode",
            "weight_map": "synapses",
            "contact_trace": "contact",
            "stdp_window": "window",
            "spike_raster": "rasters",
            "accuracy_per_step": "accuracy",
            "ann_minus_snn": "accuracy",
            "accuracy_matrix": "accuracy",
            "gate_matrix": "gates",
            "gate_scores": "gates",
        }.items()
    },
)
"""Called with a recorded run, gives a matplotlib figure; the name is that of its file."""

KINDS = {r.kind: r for r in (LEARNERS, DATA, RULES, ENCODERS, NEURONS, PROTOCOLS, FIGURES)}
"""Every registry, by what its things are called."""

RULES.reserve(["none"])
PROTOCOLS.reserve(["all"])
