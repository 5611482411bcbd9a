"""How much memory and time a run takes at least, before it starts.

Rough on purpose, and on the low side: what is refused would not have ended, or would have been
ended by the system. Sizes are those of the largest arrays; times count the multiplications. What a
forecast of a smaller run needs as well is counted by `beside`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from snn_artsy.checks import ConfigError, require
from snn_artsy.chunks import ROWS
from snn_artsy.config import RunConfig
from snn_artsy.config.where_used import REHEARSING
from snn_artsy.learners.finetune import ALIGNED_PER_CLASS
from snn_artsy.learners.replay import KEPT
from snn_artsy.learners.ridge import FITTED_SHARE, RIDGES
from snn_artsy.recording.estimate import TaskSize, in_words, replayed_in
from snn_artsy.registry import LEARNERS

PER_SECOND = 1e12
"""Multiplications per second, more than a CPU manages in single precision."""
PER_PASS = 5e-5
"""Least time of a batch (s), which Python and torch spend on its calls."""
LONGEST_DAYS = 60

_PAIRED = ("artsy_snn", "mean_field")
_WITHOUT_ADAPTERS = (
    "simplecil", "joint", "whitened_ncm", "binary_mean", "nested_mean", *REHEARSING, *_PAIRED,
)  # fmt: skip
_MLP_GATED = (
    "artsy_ann", "artsy_ann_no_gates", "artsy_ann_e0", "artsy_ann_subnetworks",
    "artsy_ann_gate_alone",
)  # fmt: skip

_TEST_BATCH = 500  # samples that a learner answers at a time


def check_cost(
    config: RunConfig,
    dim: int,
    tasks: Sequence[TaskSize],
    free: int | None,
    of_trunk: int = 0,
) -> None:
    """Refuse a run that takes more memory or time than this machine has.

    Args:
        dim: D, the size of h_0.
        free: Bytes of memory to be had; None: unknown.
        of_trunk: Multiplications of an image's pass through the trunk.

    Raises:
        ConfigError: Naming the learner, what it takes, and the keys that decide it; or a memory
            has no place for each class.
    """
    classes = sum(task.n_classes for task in tasks)
    if "icarl" in config.learners:
        remedy = f"icarl keeps at least one of each class; give {classes:,} or more"
        total = config.memory.total
        require(config.memory.most(classes) >= classes, "memory.total", total, remedy)
    for name in config.learners + (["artsy_snn"] if config.controls else []):
        needed, largest = memory(name, config, dim, tasks)
        if free is not None and needed > free:
            raise ConfigError(
                "learners",
                f"{name} needs about {in_words(needed)} of memory and "
                f"{in_words(free)} are free; the most goes to {largest}, make it smaller",
            )
        days = seconds(name, config, dim, tasks, of_trunk) / 86400
        if days > LONGEST_DAYS:
            raise ConfigError(
                "learners",
                f"{name} would take more than {days:,.0f} days; give fewer "
                f"{_repeated(name)} or smaller sizes",
            )


def memory(name: str, config: RunConfig, dim: int, tasks: Sequence[TaskSize]) -> tuple[int, str]:
    """Bytes of a learner's largest arrays together, and the keys that the largest one is due to."""
    ann, snn, gate = config.ann, config.snn, config.gate
    shown = max(task.n_train for task in tasks)
    classes = sum(task.n_classes for task in tasks)
    # features lie on the disk: those of a task and of what is asked are in memory
    sizes = {"data (its images)": 4 * dim * (shown + sum(task.n_test for task in tasks))}
    if name == "joint":  # which keeps them all, and fits them twice in double precision
        sizes["data (its images)"] += (4 + 2 * 8) * dim * sum(task.n_train for task in tasks)
    if LEARNERS.origin(name):  # what a learner takes that was added is not known
        return sum(sizes.values()), "data (its images)"
    if _adapts(name, config) and name != "finetune_linear":
        networks = len(tasks) if name.startswith(("artsy", "ease")) else 1
        # weights and biases; the one that is trained has gradients and momenta, too
        sizes["ann.bottleneck"] = 4 * (networks + 2) * 2 * dim * ann.bottleneck
        batch = min(ann.batch_size, shown)
        sizes["ann.batch_size"] = 8 * batch * (dim + ann.bottleneck)
    if name.startswith("finetune") and config.finetune.alignment_epochs:
        sizes["finetune.alignment_epochs"] = 4 * classes * ALIGNED_PER_CLASS * dim
    if name in REHEARSING:
        kept = min(config.memory.most(classes), sum(task.n_train for task in tasks))
        sizes["memory.per_class or memory.total"] = 4 * kept * (dim + classes)
        # with gradients and momenta
        sizes["memory.hidden"] = 4 * 3 * 2 * dim * config.memory.hidden
    if name in _MLP_GATED:
        sizes["ann.gate_hidden"] = 4 * (len(tasks) + 3) * dim * ann.gate_hidden
    if name.startswith("artsy") and name != "artsy_best" and gate.replay == "gaussian":
        old = classes - tasks[-1].n_classes
        stand_ins = old * gate.pseudo_per_class
        kept = min(4 * _uses(name) * stand_ins * dim, KEPT)
        sizes["gate.pseudo_per_class"] = 8 * stand_ins * dim + kept
    if name.startswith(("artsy", "mean_field")) and gate.replay == "exemplars":
        kept = sum(min(task.n_classes * gate.exemplars_per_class, task.n_train) for task in tasks)
        sizes["gate.exemplars_per_class"] = 4 * kept * dim
    if name in ("ranpac", "artsy_ann_ridge"):
        m = (config.ranpac if name == "ranpac" else config.artsy_ridge).projection
        key = "ranpac.projection" if name == "ranpac" else "artsy_ridge.projection"
        # sums over all tasks and over one, and what is factorised, in double precision; P
        sizes[key] = 8 * (3 * m * m + min(shown, ROWS) * m) + 4 * dim * m
    if name in _PAIRED:
        k, seen = snn.neuron.per_class, _seen(name, config, dim)
        inputs = snn.n_inputs(seen) * snn.contacts.per_connection
        contacts = [inputs * k * task.n_classes for task in tasks]
        # occupancy, state, clock, existence; the change of the last ones and what it is made of
        key = "snn.expansion.units" if snn.expansion.units else "snn.neuron.per_class"
        key = "snn.contacts.per_connection" if snn.contacts.per_connection > 1 else key
        sizes[key] = 14 * sum(contacts) + 16 * max(contacts) + 8 * 2 * seen * snn.expansion.units
        batch = min(snn.plasticity.batch_size, shown)
        steps = max(
            snn.encoding.steps * batch,
            snn.encoding.steps_shown * min(_TEST_BATCH, max(task.n_test for task in tasks)),
        )
        sizes["snn.encoding.n_steps or snn.plasticity.batch_size"] = 8 * steps * inputs
    largest = max(sizes, key=lambda key: sizes[key])
    return sum(sizes.values()), largest


def seconds(
    name: str, config: RunConfig, dim: int, tasks: Sequence[TaskSize], of_trunk: int = 0
) -> float:
    """Lower bound on a learner's time (s); with ``ann.augmentation`` the trunk, of so many
    multiplications an image, is part of it."""
    products, passes = work(name, config, dim, tasks, of_trunk)
    return products / PER_SECOND + passes * PER_PASS


def work(
    name: str, config: RunConfig, dim: int, tasks: Sequence[TaskSize], of_trunk: int = 0
) -> tuple[float, float]:
    """Multiplications and batches of a learner at least, from the loops that the configuration
    repeats; none of a learner that was added. ``of_trunk``: as of `seconds`."""
    if LEARNERS.origin(name):
        return 0.0, 0.0
    ann, snn = config.ann, config.snn
    products, passes = 0.0, 0.0
    for number, task in enumerate(tasks):
        n = task.n_train
        asked = tasks[: number + 1]
        n_answers = sum(other.n_test for other in asked)
        seen_classes = sum(other.n_classes for other in asked)
        stand_ins = _stand_ins(config, seen_classes - task.n_classes)
        if name.startswith("finetune"):
            epochs, batch = config.finetune.epochs, config.finetune.batch_size
            seen = sum(other.n_classes for other in tasks[: number + 1])
            drawn = ALIGNED_PER_CLASS * seen * (number > 0)
            passes += config.finetune.alignment_epochs * -(-drawn // batch)
            products += config.finetune.alignment_epochs * drawn * dim * seen
        else:
            first_only = name in ("aper_adapter", "ranpac") and number > 0
            epochs, batch = (0 if first_only else ann.epochs), ann.batch_size
        if name in REHEARSING:
            rehearsal = config.memory
            passes += rehearsal.epochs * -(-n // rehearsal.batch_size)
            products += rehearsal.epochs * n * 4 * dim * rehearsal.hidden
        if _adapts(name, config):
            passes += epochs * -(-n // batch)
            products += epochs * n * 4 * dim * ann.bottleneck
            if ann.augmentation != "none" and not name.startswith("finetune"):
                products += epochs * n * of_trunk
        if name in _MLP_GATED:
            shown_to = _shown_to_gates(config, asked)
            passes += ann.gate_epochs * sum(-(-m // ann.batch_size) for m in shown_to)
            # there, and back to the weights; then thresholds and answers ask every gate
            products += ann.gate_epochs * 2 * sum(shown_to) * dim * ann.gate_hidden
            products += (stand_ins + n_answers) * (number + 1) * dim * ann.gate_hidden
        if name in ("ranpac", "artsy_ann_ridge"):
            m = (config.ranpac if name == "ranpac" else config.artsy_ridge).projection
            factors = m**3 + len(RIDGES) * min(FITTED_SHARE * n, m) ** 3
            products += n * m * m + factors / 6
        if name == "artsy_ann_lda":
            products += n * dim**2 + dim**3 / 3
        if name == "joint":
            # L-BFGS ends by itself, often much sooner: count what one of a hundred would take
            passes += config.joint.max_iterations * len(config.joint.l2) / 100
        if name in _PAIRED:
            seen = _seen(name, config, dim)
            neurons = snn.neuron.per_class * task.n_classes
            of_neuron = snn.n_inputs(seen) * snn.contacts.per_connection
            contacts = of_neuron * neurons
            shown = snn.plasticity.epochs * n * snn.encoding.steps
            # contacts that fail show every neuron spikes of its own
            alone = neurons if snn.contacts.fails and name == "artsy_snn" else 1
            passes += alone * shown / min(snn.plasticity.batch_size, n)
            products += (shown + n_answers * snn.encoding.steps_shown) * contacts
            if name == "artsy_snn":
                # the task's own samples and all answers go through every sub-network, stand-ins for
                # older classes through the new one, for its prototypes and for its threshold
                every = of_neuron * snn.neuron.per_class * seen_classes
                passed = n * every + n_answers * (every - contacts) + 2 * stand_ins * contacts
                products += passed * snn.encoding.steps_shown
            if name == "artsy_snn" and snn.inhibition.source == "plastic":
                inhibited = snn.inhibition.epochs * n * snn.encoding.steps_shown
                passes += inhibited / min(snn.plasticity.batch_size, n)
                products += inhibited * contacts
            replayed = replayed_in(config, seen_classes)
            passes += replayed * snn.encoding.steps / snn.replay.batch_size
            products += replayed * contacts
            products += (
                (snn.plasticity.epochs * n + n_answers + replayed) * 2 * seen * snn.expansion.units
            )
        if name not in _PAIRED:
            products += n_answers * seen_classes * dim
    return products, passes


def beside(
    name: str, config: RunConfig, dim: int, tasks: Sequence[TaskSize]
) -> tuple[float, float]:
    """What a learner does beside `work`, which is all that matters where a run is too large: it is
    what smaller runs spend their time on.

    Of learners on h_0 that are asked for their time with many images: `simplecil`, `ranpac`,
    `artsy_ann` by any gates, and `artsy_snn`; of others only what all do.

    Returns:
        Multiplications (one in double precision takes as long as two), and numbers that are read
        from memory or written there.
    """
    ann, products, moved = config.ann, 0.0, 0.0
    for number, task in enumerate(tasks):
        n, own, asked = task.n_train, task.n_classes, tasks[: number + 1]
        n_answers = sum(other.n_test for other in asked)
        seen = sum(other.n_classes for other in asked)
        # read, checked, joined and averaged; copied and made unit vectors; scores checked, sorted
        moved += 8 * dim * n + n_answers * (6 * dim + 8 * seen)
        if _adapts(name, config) and not (name == "ranpac" and number):
            # there and back: one more product by the bottleneck, three by the classes
            products += ann.epochs * n * (dim * ann.bottleneck + 3 * dim * own)
            moved += ann.epochs * n * 12 * dim
        if name.startswith("artsy_ann"):
            # mean answers to new classes; one open gate an answer, and its prototypes
            products += (number + 1) * n * dim * ann.bottleneck
            moved += (number + 1) * (n * dim + n_answers * 4 * dim)
            products += n_answers * (2 * dim * ann.bottleneck + seen * dim)
        if config.gate.replay == "gaussian" and (name in _PAIRED or name.startswith("artsy_ann")):
            drawn, kept = _drawn(name, config, dim, asked)
            products += drawn * dim**2 + 2 * (n * dim**2 + dim**3 / 6)
            moved += 8 * drawn * dim + 3 * kept * dim
            products += (
                _stand_ins(config, seen - own) * dim * ann.bottleneck * (name not in _PAIRED)
            )
        if name in _MLP_GATED:
            moved += (4 * ann.gate_epochs + 2) * sum(_shown_to_gates(config, asked)) * dim
        if name == "artsy_ann_lda":
            products += n * dim**2 + dim**3 / 3 + 2 * dim**2 * seen + 2 * n_answers * dim * seen
        if name in ("ranpac", "artsy_ann_ridge"):
            m = (config.ranpac if name == "ranpac" else config.artsy_ridge).projection
            fitted = min(FITTED_SHARE * n, m)
            # the other half of factors in double precision, and what they solve
            products += (m**3 + len(RIDGES) * fitted**3) / 6 + 2 * m**2 * seen
            products += 2 * len(RIDGES) * fitted**2 * own
            # of samples with each other, or errors by sums
            few = FITTED_SHARE * n <= m
            products += 2 * (fitted * n * m if few else len(RIDGES) * m**2 * own)
            products += n * dim * m + n_answers * (dim * m + 2 * m * seen)
            moved += 30 * m**2 + 6 * m * (n + n_answers)
        if name in _PAIRED:
            driven, steps = _seen(name, config, dim), config.snn.encoding.steps_shown
            stand_ins = _stand_ins(config, seen - own)
            shown = config.snn.plasticity.epochs * n + n + n_answers + _uses(name) * stand_ins
            # whitening in double precision; a random number for each feature in each step
            products += 2 * shown * driven**2
            moved += 12 * shown * driven * steps
            contacts = config.snn.n_inputs(driven) * config.snn.neuron.per_class
            # a batch's change of all contacts that learn; all of them recorded
            batches = config.snn.plasticity.epochs * n / config.snn.plasticity.batch_size
            moved += 20 * batches * contacts * own + 30 * contacts * seen
    return products, moved


def _drawn(
    name: str, config: RunConfig, dim: int, tasks: Sequence[TaskSize]
) -> tuple[float, float]:
    """Stand-ins for older tasks that are drawn when the last of some comes, and that are used: for
    means alone, for thresholds, or for training, too. Those that are kept are drawn once."""
    *older, _ = tasks
    uses = _uses(name)
    used = uses * sum(_stand_ins(config, task.n_classes) for task in older)
    new = uses * _stand_ins(config, older[-1].n_classes) if older else 0
    return (new if 4 * used * dim <= KEPT else used), used


def _uses(name: str) -> int:
    """For how many purposes stand-ins are drawn, each with draws of its own."""
    return 4 if name in _MLP_GATED else 2 if name in _PAIRED else 1


def _stand_ins(config: RunConfig, classes: int) -> int:
    """Samples that stand in for so many older classes."""
    gate = config.gate
    each = {"gaussian": gate.pseudo_per_class, "exemplars": gate.exemplars_per_class, "none": 0}
    return each[gate.replay] * classes


def _shown_to_gates(config: RunConfig, tasks: Sequence[TaskSize]) -> list[int]:
    """Samples that each MLP gate is trained on when the last of some tasks comes: the new gate its
    own against stand-ins for all others, an older one stand-ins for its own against the new."""
    *older, new = tasks
    own = [_stand_ins(config, task.n_classes) for task in older]
    pairs = [(new.n_train, sum(own)), *((stand_ins, new.n_train) for stand_ins in own)]
    wanted = config.gate.features
    if wanted == "both":  # a gate that lacks one of the kinds is not trained
        return [good + bad for good, bad in pairs if good and bad]
    return [(wanted == "good") * good + (wanted == "bad") * bad for good, bad in pairs]


def _adapts(name: str, config: RunConfig) -> bool:
    """Whether a learner trains something by gradient descent."""
    if name == "ranpac" and not config.ranpac.adapt_first:
        return False
    return name not in _WITHOUT_ADAPTERS or (name == "artsy_snn" and config.snn.mode == "gate")


def _seen(name: str, config: RunConfig, dim: int) -> int:
    """Size of what drives a learner's silent synapses."""
    return config.snn.tapped(dim) if name == "artsy_snn" else dim


def free_memory() -> int | None:
    """Bytes that this process can still get, as far as the system tells: the least of what is
    free, what its control group (version 2) leaves and what its limit of addresses leaves."""
    limits = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(1024 * int(line.split()[1]))
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    left = (_group_leaves(Path("/sys/fs/cgroup")), _limit_leaves())
    limits += [each for each in left if each is not None]
    return max(min(limits), 0) if limits else None


def _group_leaves(group: Path) -> int | None:
    """What a control group's limit leaves; None where there is no group, or no limit ("max").
    Pages of files that were read and not used lately count as used there, but the system drops
    them before it refuses anything."""
    try:
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    try:
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        dropped = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, ValueError, IndexError):
        dropped = 0
    return limit - used + dropped


def _limit_leaves() -> int | None:
    """What the limit of a process's addresses leaves beside those that it has; None: no limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):  # not Linux
        pages = 0
    return limit - pages * resource.getpagesize()


def _repeated(name: str) -> str:
    if name in _PAIRED:
        return (
            "snn.plasticity.epochs, snn.replay.epochs, snn.inhibition.epochs, "
            "snn.encoding.n_steps or test_steps"
        )
    if name.startswith("finetune"):
        return "finetune.epochs or finetune.alignment_epochs"
    if name in REHEARSING:
        return "memory.epochs"
    return "joint.max_iterations" if name == "joint" else "ann.epochs or ann.gate_epochs"
