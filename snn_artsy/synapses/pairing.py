"""When the stimulus is on and when the teacher fires, within one presentation.

Given the image, Poisson input and a clamped teacher are independent, so that plain pair STDP would
drive every contact the same way (docs/model.md, "Pairing"). Stimuli therefore come in volleys, and
the taught assembly fires at a fixed time of each. A lag after the volley, inputs that took part in
it find their glutamate trace high at that moment, inputs at other times do not. Inside a volley
whose units fire in order of their drive (``latency``), strong inputs precede it and weak ones
follow it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snn_artsy.arrays import Sizes, check_same_kind, check_spikes, check_tensor
from snn_artsy.checks import ConfigError, between
from snn_artsy.config import EncodingConfig, TeacherConfig
from snn_artsy.synapses.noise import uniform


@dataclass(frozen=True)
class Schedule:
    """Steps of a presentation.

    Args:
        volley: Stimulus on, bool [T].
        teach: Teaching current on, bool [T, K]: for each neuron of an assembly, or K = 1 for all.
        volley_steps, period_steps: Length of a volley and of a period, in steps.
    """

    volley: Tensor
    teach: Tensor
    volley_steps: int
    period_steps: int


def make_schedule(encoding: EncodingConfig, teacher: TeacherConfig, per_class: int = 1) -> Schedule:
    """Turn times in ms into steps.

    Args:
        per_class: Neurons K of an assembly, over which the teacher's phase is spread.

    Raises:
        ConfigError: The teacher's lag or phase does not fit between the start of a volley and the
            next one's, or the presentation is too short for a volley and its teacher.
    """
    volley_steps, period_steps = _volley_and_period(encoding)
    if teacher.phase_ms is None:
        at = torch.tensor([_after(encoding, teacher, volley_steps, period_steps)])
    else:
        at = _inside(encoding, teacher, period_steps, per_class)
    last = int(at.max())
    if last >= encoding.steps:
        raise ConfigError(
            "snn.encoding.n_steps",
            f"{encoding.steps} steps end before the first teaching current; use {last + 1} or more",
        )
    position = torch.arange(encoding.steps) % period_steps
    return Schedule(position < volley_steps, position[:, None] == at, volley_steps, period_steps)


def _after(
    encoding: EncodingConfig, teacher: TeacherConfig, volley_steps: int, period_steps: int
) -> int:
    """The step of a period that lies the teacher's lag after the volley's last."""
    dt = encoding.dt
    lag_steps = 1 if teacher.lag_ms is None else max(round(teacher.lag_ms / dt), 1)
    if volley_steps - 1 + lag_steps >= period_steps:
        raise ConfigError(
            "snn.teacher.lag_ms",
            f"{lag_steps * dt:g} ms after a volley of {volley_steps * dt:g} ms "
            f"falls into the next one; use at most {(period_steps - volley_steps) * dt:g} ms or a "
            "longer snn.encoding.period_ms",
        )
    return volley_steps - 1 + lag_steps


def _inside(
    encoding: EncodingConfig, teacher: TeacherConfig, period_steps: int, per_class: int
) -> Tensor:
    """The step of a period at which each neuron of an assembly is taught, int64 [K] or [1]."""
    phase, spread = teacher.phase_ms or 0.0, teacher.phase_spread_ms
    # alone it is taught at the phase itself
    each = torch.linspace(-spread, spread, per_class) if per_class > 1 else torch.zeros(1)
    at = torch.round((phase + each.double()) / encoding.dt).long()
    if int(at.min()) < 0 or int(at.max()) >= period_steps:
        most = (period_steps - 1) * encoding.dt
        raise ConfigError(
            "snn.teacher.phase_ms",
            f"{phase:g} -+ {spread:g} ms after a volley's start leaves its period; stay in 0 to "
            f"{most:g} ms (snn.teacher.phase_spread_ms), or use a longer snn.encoding.period_ms",
        )
    return at if spread else at[:1]


def reading_schedule(encoding: EncodingConfig) -> Schedule:
    """A presentation without a teacher, ``encoding.test_steps`` long."""
    volley_steps, period_steps = _volley_and_period(encoding)
    position = torch.arange(encoding.steps_shown) % period_steps
    nobody = torch.zeros(encoding.steps_shown, 1, dtype=torch.bool)
    return Schedule(position < volley_steps, nobody, volley_steps, period_steps)


def _volley_and_period(encoding: EncodingConfig) -> tuple[int, int]:
    """In steps."""
    volley_steps = max(round(encoding.volley / encoding.dt), 1)
    return volley_steps, max(round(encoding.period / encoding.dt), volley_steps)


def teaching_spikes(
    schedule: Schedule,
    teacher: TeacherConfig,
    taught: Tensor,
    seed: int,
    stream: int,
    sample: Tensor,
) -> Tensor:
    """Which neurons the teaching current makes fire: float32 [T, B, n_post] of 0 and 1.

    Args:
        taught: bool [B, n_post], the assembly of each sample's class; neurons of an assembly lie
            beside each other.
        seed, stream, sample: Key of the noise (each neuron fails with 1 - reliability).

    Raises:
        TypeError, ValueError: ``taught`` is no bool [B, n_post], ``sample`` no int64 [B], or
            n_post no multiple of the schedule's K.
    """
    sizes: Sizes = {}
    check_same_kind("taught", taught, "B n_post", sizes, sample.new_zeros((), dtype=torch.bool))
    check_tensor("sample", sample, "B", sizes, taught)
    n_steps = len(schedule.teach)
    each = each_taught(schedule, taught.shape[1]).to(taught.device)
    steps = torch.nonzero(each.any(1))[:, 0]
    u = uniform(seed, stream, sample, n_steps, taught.shape[1], only=steps)
    fires = torch.zeros(n_steps, *taught.shape, device=taught.device)
    fires[steps] = ((u < teacher.reliability) & each[steps, None] & taught).float()
    return fires


def each_taught(schedule: Schedule, n_post: int) -> Tensor:
    """Steps with a teaching current for each of n_post neurons in assemblies, bool [T, n_post].

    Raises:
        ValueError: They are no whole assemblies.
    """
    k = schedule.teach.shape[1]
    if n_post % k:
        raise ValueError(f"n_post: {n_post} neurons are no assemblies of {k}")
    return schedule.teach.repeat(1, n_post // k)


def shuffle_in_time(spikes: Tensor, seed: int, stream: int, sample: Tensor) -> Tensor:
    """Each unit's spikes put at random steps of the same presentation, their number kept.

    The control behind ``timing_index``: spikes [T, B, n] -> [T, B, n].

    Raises:
        TypeError, ValueError: Shapes do not fit, or a spike is neither 0 nor 1.
    """
    sizes: Sizes = {}
    check_tensor("spikes", spikes, "T B n", sizes, spikes)
    check_tensor("sample", sample, "B", sizes, spikes)
    check_spikes("spikes", spikes)
    order = uniform(seed, stream, sample, spikes.shape[0], spikes.shape[2]).argsort(dim=0)
    return torch.gather(spikes, 0, order)


def jitter_in_time(
    spikes: Tensor, sd_steps: float, seed: int, stream: int, sample: Tensor
) -> Tensor:
    """Each spike moved by a normal number of steps, [T, B, n] -> [T, B, n].

    Beyond the last step comes the first one, so that wide jitter is `shuffle_in_time`; spikes of a
    unit that fall into one step are one.

    Raises:
        TypeError, ValueError: Shapes do not fit, a spike is neither 0 nor 1, or ``sd_steps`` is
            negative.
    """
    sizes: Sizes = {}
    check_tensor("spikes", spikes, "T B n", sizes, spikes)
    check_tensor("sample", sample, "B", sizes, spikes)
    check_spikes("spikes", spikes)
    between("sd_steps", sd_steps, 0, 1e6)
    n_steps = len(spikes)
    u = uniform(seed, stream, sample, n_steps, spikes.shape[2]).double()
    # the ends of (0, 1), at which a normal number is infinite, are left out
    normal = torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9))
    step = torch.arange(n_steps, device=spikes.device)[:, None, None]
    to = (step + torch.round(sd_steps * normal).long()) % n_steps
    return torch.zeros_like(spikes).scatter_add_(0, to, spikes).clamp_max(1.0)
