"""What produced a run: versions, commit, data, device, speed and memory, in `receipt.json`."""

import importlib.metadata
import pathlib
import platform
import resource
import subprocess
import sys
from typing import Any

import jax

import afslvm

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'tensorflow-datasets', 'grain')


def git_commit() -> str:
  """The commit of the source tree, with '+changes' if it is dirty; 'unknown' outside git."""
  root = pathlib.Path(afslvm.__file__).parents[1]

  def git(*arguments: str) -> str:
    return subprocess.run(
      ['git', '-C', str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()

  try:
    return git('rev-parse', 'HEAD') + ('+changes' if git('status', '--porcelain', '-uno') else '')
  except (OSError, subprocess.SubprocessError):
    return 'unknown'


def versions() -> dict[str, str]:
  """Versions of Python, afslvm and the packages that decide results."""
  found = {'python': platform.python_version(), 'afslvm': afslvm.__version__}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = 'not installed'
  return found


def peak_memory_mb() -> float:
  """Peak memory of the first device, or of the process where the device doesn't say, in MB."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'peak_bytes_in_use' in stats:
    return round(stats['peak_bytes_in_use'] / 1e6, 1)
  unit = 1e6 if sys.platform == 'darwin' else 1e3
  return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def device() -> dict[str, Any]:
  """Kind and number of devices, and the machine they are in."""
  first = jax.devices()[0]
  return {
    'platform': first.platform,
    'kind': first.device_kind,
    'count': jax.device_count(),
    'processes': jax.process_count(),
    'machine': f'{platform.system()} {platform.machine()}',
  }
