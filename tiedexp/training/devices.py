"""The machine that a run trains on: threads, determinism, and one device or several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from tiedexp.errors import RunError
from tiedexp.host import count_cores


def set_up_process(*, threads: int | None, deterministic: bool, preferred_threads: int | None = None) -> int:
    """Set the number of threads within an operation, and make operations deterministic.

    Call it before TensorFlow runs anything, because the number of threads cannot be changed later. GPU memory is
    allocated as it is needed.

    Args:
        threads: the number of threads, on which the last bits of sums may depend; None leaves it open.
        deterministic: whether operations must give the same bits every time.
        preferred_threads: the number to use if `threads` is None; None for all cores. If TensorFlow already runs in
            this process with another number, it keeps that one.

    Returns:
        the number of threads.

    Raises:
        RunError: TensorFlow already runs with a number of threads other than `threads`.
    """
    count = threads or preferred_threads or count_cores()
    # 0 is TensorFlow's own choice: all cores.
    current = tf.config.threading.get_intra_op_parallelism_threads()
    if current != count:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(count)
        except RuntimeError:
            running = current or count_cores()
            if threads not in (None, running):
                text = f"TensorFlow already runs in this process with {running} threads instead of {threads}"
                raise RunError(text) from None
            count = running
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            break  # already in use by this process, with the earlier setting
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    return count


@contextmanager
def device_failures() -> Iterator[None]:
    """Turn errors of TensorFlow's operations into one message.

    Raises:
        RunError: the device ran out of memory, has no deterministic implementation, or failed in another way.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        text = "the device ran out of memory; a smaller training.batch_size or model.width needs less"
        raise RunError(text) from error
    except tf.errors.OpError as error:
        reason = (error.message or type(error).__name__).strip().splitlines()[0]
        if "determinis" in reason.lower():
            reason += "; training.deterministic=false disables this"
        raise RunError(f"TensorFlow cannot continue: {reason}") from error


def uses_gpus() -> bool:
    """Whether training uses GPUs, which it does if there are any."""
    return bool(tf.config.list_physical_devices("GPU"))


def build_strategy(devices: int | str) -> tf.distribute.Strategy:
    """The default strategy for one device, MirroredStrategy for more.

    Args:
        devices: the number of GPUs, or "all". On a machine without a GPU, the number of (logical) CPU devices.

    Raises:
        RunError: there are fewer devices than this.
    """
    kind = "GPU" if uses_gpus() else "CPU"
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    if "TF_CONFIG" in os.environ:
        raise RunError(
            "TF_CONFIG is set, but training over several machines does not work on TensorFlow 2.21 with Keras 3; "
            "unset it and use the GPUs of one machine"
        )
    count = len(names) if devices == "all" else int(devices)
    if count > len(names):
        found = f"there {'is' if len(names) == 1 else 'are'} {len(names)} {kind}"
        raise RunError(f"`training.devices` is {count}, but {found}")
    if count == 1:
        return tf.distribute.get_strategy()
    # Reduce through the host, because there is no NCCL for CPUs.
    reduction = tf.distribute.ReductionToOneDevice() if kind == "CPU" else None
    return tf.distribute.MirroredStrategy(names[:count], cross_device_ops=reduction)


def describe_devices(strategy: tf.distribute.Strategy) -> str:
    """The devices, for a person: e.g. `2 x NVIDIA H100` or `CPU`."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        count = strategy.num_replicas_in_sync
        return "CPU" if count == 1 else f"{count} x logical CPU"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return name if strategy.num_replicas_in_sync == 1 else f"{strategy.num_replicas_in_sync} x {name}"
