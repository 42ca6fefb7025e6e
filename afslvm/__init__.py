"""Autoregressive flows across time, sequential latent variable models, variational filtering.

    import afslvm as af

    run = af.train('smoke:slvm', 'runs/slvm')   # or af.load_run('runs/slvm')
    print(run.score(x))                         # x: uint8 [B, T, H, W, C] of your own

The names below are imported when they are first used, so that `import afslvm` takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = '0.1.0'

if TYPE_CHECKING:
  from afslvm.building import build as build
  from afslvm.flows.conditioners import ConvConditioner as ConvConditioner
  from afslvm.flows.conditioners import DenseConditioner as DenseConditioner
  from afslvm.flows.glow import Glow as Glow
  from afslvm.flows.temporal import AutoregressiveAffine as AutoregressiveAffine
  from afslvm.inference.direct import Direct as Direct
  from afslvm.inference.iterative import Iterative as Iterative
  from afslvm.likelihoods.base import ConditionalLikelihood as ConditionalLikelihood
  from afslvm.likelihoods.bernoulli import Bernoulli as Bernoulli
  from afslvm.likelihoods.discretized_gaussian import DiscretizedGaussian as DiscretizedGaussian
  from afslvm.likelihoods.gaussian import Gaussian as Gaussian
  from afslvm.likelihoods.nade import Nade as Nade
  from afslvm.models.base import SequenceModel as SequenceModel
  from afslvm.models.slvm import SLVM as SLVM
  from afslvm.models.srnn import SRNN as SRNN
  from afslvm.models.standard_normal import StandardNormal as StandardNormal
  from afslvm.models.svg import SVG as SVG
  from afslvm.models.temporal_flow import TemporalFlow as TemporalFlow
  from afslvm.models.videoflow import VideoFlow as VideoFlow
  from afslvm.models.vrnn import VRNN as VRNN
  from afslvm.objectives.bounds import elbo as elbo
  from afslvm.objectives.bounds import fivo as fivo
  from afslvm.objectives.bounds import iwae as iwae
  from afslvm.own_arrays import generate as generate
  from afslvm.own_arrays import latents as latents
  from afslvm.run_evaluation import evaluate as evaluate
  from afslvm.runs import load_run as load_run
  from afslvm.runs import train as train
  from afslvm.transforms.preprocessing import dequantise as dequantise

# The modules that define the names; tests hold this table to the imports above.
_HOMES = {
  # From a config to a trained model, and what it says of data.
  'build': 'afslvm.building',
  'train': 'afslvm.runs',
  'load_run': 'afslvm.runs',
  'evaluate': 'afslvm.run_evaluation',
  'latents': 'afslvm.own_arrays',
  'generate': 'afslvm.own_arrays',
  # Bounds on log p(x), for training loops of one's own.
  'elbo': 'afslvm.objectives.bounds',
  'iwae': 'afslvm.objectives.bounds',
  'fivo': 'afslvm.objectives.bounds',
  'dequantise': 'afslvm.transforms.preprocessing',
  # Models.
  'SequenceModel': 'afslvm.models.base',
  'StandardNormal': 'afslvm.models.standard_normal',
  'TemporalFlow': 'afslvm.models.temporal_flow',
  'SLVM': 'afslvm.models.slvm',
  'VRNN': 'afslvm.models.vrnn',
  'SRNN': 'afslvm.models.srnn',
  'SVG': 'afslvm.models.svg',
  'VideoFlow': 'afslvm.models.videoflow',
  # What they are made of.
  'AutoregressiveAffine': 'afslvm.flows.temporal',
  'Glow': 'afslvm.flows.glow',
  'ConvConditioner': 'afslvm.flows.conditioners',
  'DenseConditioner': 'afslvm.flows.conditioners',
  'ConditionalLikelihood': 'afslvm.likelihoods.base',
  'Gaussian': 'afslvm.likelihoods.gaussian',
  'DiscretizedGaussian': 'afslvm.likelihoods.discretized_gaussian',
  'Bernoulli': 'afslvm.likelihoods.bernoulli',
  'Nade': 'afslvm.likelihoods.nade',
  'Direct': 'afslvm.inference.direct',
  'Iterative': 'afslvm.inference.iterative',
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
  """Imports one of the names above when it is first used."""
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  globals()[name] = value = getattr(importlib.import_module(_HOMES[name]), name)
  return value


def __dir__() -> list[str]:
  """Lists the names above beside what has been imported already."""
  return sorted({*globals(), *_HOMES})
