"""A trained run on arrays of the user's own: scored, encoded and continued.

Arrays hold what the run's data hold: uint8 in 0..255 of video, 0 and 1 of binary data, finite
floats of any other. They become what the model sees as the run's config says.
"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from afslvm.errors import ConfigError, NumericsError
from afslvm.models.base import SequenceModel
from afslvm.objectives import bounds
from afslvm.transforms import preprocessing
from afslvm.types import Array, PyTree, Temperature

if TYPE_CHECKING:
  from afslvm.runs import Run

BOUNDS = {'elbo': bounds.elbo, 'iwae': bounds.iwae, 'fivo': bounds.fivo}


class Encoding(NamedTuple):
  """What a posterior says of sequences; float arrays [B, T, Z] that end at the last step of x.

  Steps that a flow is only given have no latent variables: `scored` is False there, means and
  draws are 0 and scales 1.
  """

  mean: np.ndarray  # of q(z_t | ...)
  scale: np.ndarray  # its standard deviation
  z: np.ndarray  # drawn from it
  prior_mean: np.ndarray  # of p(z_t | ...), given the draws before
  prior_scale: np.ndarray
  scored: np.ndarray  # bool [B, T]


def score(
  run: 'Run',
  x: np.ndarray,
  mask: np.ndarray | None = None,
  bound: str = 'elbo',
  num_samples: int = 0,
  seed: int = 0,
) -> bounds.Bound:
  """Bounds log p of sequences; see `Bound` for its units.

  Args:
    run: a trained run.
    x: [B, T, *event], values as in the run's data.
    mask: bool [B, T], False at padding, which must be at the end.
    bound: 'elbo' (exact for models without latent variables), 'iwae' or 'fivo'.
    num_samples: draws of 'iwae', particles of 'fivo'.
    seed: of dequantisation noise and latent draws.

  Raises:
    ConfigError: values that are not of the run's kind, or another bound.
    ValueError: a shape that does not fit the model.
  """
  if bound not in BOUNDS:
    raise ConfigError(f'bound={bound!r} is unknown; it is one of {", ".join(BOUNDS)}')
  if (bound == 'elbo') != (num_samples == 0):
    raise ConfigError(
      f'bound={bound!r}, num_samples={num_samples}: iwae and fivo need num_samples of 1 or more, '
      'elbo takes one draw and needs none'
    )
  noise, key = jax.random.split(jax.random.key(seed))
  x, kind = modelled(run, x, noise), run.built.dequantisation
  bounds.check(run.model, x, mask)
  mask = np.ones(x.shape[:2], bool) if mask is None else mask
  found = _bound(bound, num_samples, run.model, run.variables, x, key, mask)
  return found.replace(dequantisation=kind)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _bound(
  name: str,
  num_samples: int,
  model: SequenceModel,
  variables: PyTree,
  x: Array,
  key: Array,
  mask: Array,
) -> bounds.Bound:
  counts = (num_samples,) if num_samples else ()
  return BOUNDS[name](model, variables, x, key, mask, *counts)


def latents(run: 'Run', x: np.ndarray, mask: np.ndarray | None = None, seed: int = 0) -> Encoding:
  """Encodes sequences: means, scales and draws of their posterior.

  Args:
    run: a trained run of a model with latent variables.
    x: [B, T, *event], values as in the run's data.
    mask: bool [B, T], False at padding, which must be at the end.
    seed: of dequantisation noise and draws; with that of `score` the draws are the same.

  Raises:
    ConfigError: the model has no latent variables, or values are not of the run's kind.
    ValueError: a shape that does not fit the model.
  """
  if run.model.bound == 'exact':
    raise ConfigError(
      f'{run.path}: this model has no latent variables; use a run of slvm, srnn, vrnn or svg'
    )
  noise, key = jax.random.split(jax.random.key(seed))
  x = modelled(run, x, noise)
  bounds.check(run.model, x, mask)
  mask = np.ones(x.shape[:2], bool) if mask is None else mask
  found, scored = _encode(run.model, run.variables, x, key, mask)
  prior, q = found.prior, found.posterior
  values = (q.loc, jnp.exp(q.log_scale), found.z, prior.loc, jnp.exp(prior.log_scale), scored)
  return Encoding(*map(np.asarray, values))


@functools.partial(jax.jit, static_argnums=0)
def _encode(model: SequenceModel, variables: PyTree, x: Array, key: Array, mask: Array):
  terms = model.apply(variables, x, mask, rngs={'sample': key})
  return terms.latents, terms.scored


def generate(
  run: 'Run',
  context: np.ndarray,
  num_steps: int,
  temperature: Temperature = 1.0,
  seed: int = 0,
) -> np.ndarray:
  """Continues sequences.

  Args:
    run: a trained run.
    context: [B, C, *event], values as in the run's data; C may be 0 where the model needs none.
      Repeat a sequence to continue it several times.
    num_steps: steps to draw.
    temperature: scales all standard deviations; 0 gives the mean path. A pair, of models with
      latent variables, is that of latent variables and that of the likelihood.
    seed: of dequantisation noise and draws.

  Returns:
    [B, num_steps, *event], float; of 8-bit data (stored value / 255), clipped to [0, 1].

  Raises:
    ConfigError: a context that is too short, or values that are not of the run's kind.
    NumericsError: a draw that is not finite.
    ValueError: a shape that does not fit the model.
  """
  if not isinstance(num_steps, int) or num_steps < 1:
    raise ConfigError(f'num_steps={num_steps!r} must be an integer, 1 or more')
  noise, key = jax.random.split(jax.random.key(seed))
  context = modelled(run, context, noise, 'context')
  if context.shape[1] < run.model.min_context:
    raise ConfigError(
      f'context has {context.shape[1]} steps, which is too short: this model needs '
      f'{run.model.min_context}'
    )
  drawn = np.asarray(_generate(run.model, num_steps, run.variables, context, key, temperature))
  if not np.isfinite(drawn).all():
    raise NumericsError(
      f'the continuation is not finite; try a lower temperature than {temperature} or fewer '
      f'num_steps than {num_steps}'
    )
  return shown(run, drawn)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _generate(
  model: SequenceModel, num_steps: int, variables: PyTree, context: Array, key: Array, temperature
) -> Array:
  return model.apply(
    variables, context, num_steps, temperature, rngs={'sample': key}, method='generate'
  )


# ---- values --------------------------------------------------------------------------------------


def modelled(run: 'Run', x: Any, key: Array, name: str = 'x') -> jax.Array:
  """Returns stored values [B, T, *event] as the model sees them, float32.

  Raises:
    ConfigError: they are not of the kind that the run's data are.
    ValueError: another shape.
  """
  x = np.asarray(x)
  bounds.check_shape(run.model, x, name)
  if run.dataset.data_space == '8bit':
    _check_8bit(x, name)
  elif run.dataset.data_space == 'binary':
    _check_binary(x, name)
  elif not np.issubdtype(x.dtype, np.number) or np.iscomplexobj(x) or not np.isfinite(x).all():
    raise ConfigError(
      f'{name} (dtype {x.dtype}) holds values that are not finite; mask or cut them'
    )
  return preprocessing.dequantise(key, x, run.built.dequantisation)


def _check_8bit(x: np.ndarray, name: str):
  if not np.issubdtype(x.dtype, np.integer):
    raise ConfigError(
      f'{name} has dtype {x.dtype}, this run is of 8-bit data; give uint8 in 0..255, of values in '
      f'[0, 1] (255 * {name}).round().astype(np.uint8)'
    )
  if x.size and not (x.min() >= 0 and x.max() <= 255):
    raise ConfigError(
      f'{name} holds {x.min()}..{x.max()}, this run is of 8-bit data; give values in 0..255'
    )


def _check_binary(x: np.ndarray, name: str):
  odd = x[(x != 0) & (x != 1)]
  if x.dtype.kind not in 'biuf' or odd.size:
    what = f'holds {odd.flat[0]}' if odd.size else f'has dtype {x.dtype}'
    raise ConfigError(
      f'{name} {what}, this run is of binary data; give 0 and 1, such as {name} > 0'
    )


def shown(run: 'Run', values: Array) -> np.ndarray:
  """Returns draws of the model on the scale of the data, 8-bit ones / 255 and clipped to [0, 1]."""
  values = np.asarray(preprocessing.without_noise(values, run.built.dequantisation))
  return np.clip(values, 0.0, 1.0) if run.dataset.data_space == '8bit' else values
