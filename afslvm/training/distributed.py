"""Data parallelism: one mesh with a `data` axis, from one CPU to a pod."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from afslvm.errors import ConfigError
from afslvm.types import PyTree


def make_mesh(devices: list | None = None) -> Mesh:
  """All devices along one axis named `data`."""
  return Mesh(np.array(jax.devices() if devices is None else devices), ('data',))


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of the state: a copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def sharded(mesh: Mesh) -> NamedSharding:
  """The sharding of a batch: sequences over devices."""
  return NamedSharding(mesh, PartitionSpec('data'))


def check_batch_size(batch_size: int, mesh: Mesh):
  """Raises ConfigError if a global batch can't be divided evenly over the devices."""
  if batch_size % mesh.size:
    lower = batch_size - batch_size % mesh.size
    raise ConfigError(
      f'train.batch_size {batch_size} does not divide over {mesh.size} devices; '
      f'use {lower or mesh.size} or {lower + mesh.size}'
    )


def share_of(batch: PyTree) -> PyTree:
  """This process's part of a batch of any size that every process has, filled up with zeros."""
  count, index = jax.process_count(), jax.process_index()

  def share(value):
    value = np.asarray(value)
    missing = -len(value) % jax.device_count()
    value = np.concatenate([value, np.zeros((missing, *value.shape[1:]), value.dtype)])
    return np.split(value, count)[index]

  return jax.tree.map(share, batch)


def to_devices(batch: PyTree, mesh: Mesh) -> PyTree:
  """This process's part of a batch -> global arrays."""
  sharding = sharded(mesh)
  return jax.tree.map(
    lambda value: jax.make_array_from_process_local_data(sharding, np.asarray(value)), batch
  )
