"""Classes from outside the package, which a config names by their path: `tests/outside.py`."""

import jax
import numpy as np
import pytest

import afslvm as af
from afslvm.configs import common
from afslvm.errors import ConfigError

LAYERS = {'features': 4, 'depth': 1}


def own_config(likelihood, **data):
  """A small SRNN of vectors."""
  parts = dict.fromkeys(('embedding', 'prior', 'decoder'), LAYERS)
  return common.experiment(
    data={
      **{'name': 'particle', 'length': 8, 'num_frames': 8, 'sigma': 0.1, 'dequantisation': 'none'},
      **{'num_train': 8, 'num_validation': 4, 'num_test': 4},
      **data,
    },
    model=common.srnn(
      2,
      {
        **parts,
        'recurrence': {'features': 4},
        'encoder': {'depth': 0},
        'inference': {**LAYERS, 'layers': 0},
        'likelihood': likelihood,
      },
    ),
    optimizer={'learning_rate': 1e-2},
    train={'num_steps': 4, 'batch_size': 4, 'validation_batches': 1},
  )


def test_a_likelihood_from_outside(tmp_path, environment):
  likelihood = {'name': 'tests.outside:StudentT', 'degrees': 5.0}
  config = own_config(likelihood, data_dir=environment['TFDS_DATA_DIR'])
  run = af.train(config, tmp_path / 'run')
  assert run.model.likelihood.degrees == 5.0
  again = af.load_run(tmp_path / 'run')  # its config.json names the class
  assert type(again.model.likelihood).__name__ == 'StudentT'
  x = np.stack([again.data['test'][index] for index in range(2)])
  assert np.isfinite(again.score(x).nats_per_dim).all()
  assert again.generate(x[:, :3], 2).shape == (2, 2, 2)
  assert again.evaluate(num_sequences=2)[0].name == 'SRNN'


def test_a_model_from_outside():
  config = own_config({}).to_dict()
  config['model'] = {'name': 'tests.outside:RandomWalk', 'initial_log_scale': 0.5}
  built = af.build(config)
  x = np.random.default_rng(0).standard_normal((3, 8, 2)).astype(np.float32).cumsum(axis=1)
  variables = built.model.init(jax.random.key(0), x, method='initialize')
  found = af.elbo(built.model, variables, x, jax.random.key(0))
  scaled = np.diff(x, axis=1, prepend=0) / np.exp(0.5)
  expected = -0.5 * (scaled**2 + np.log(2 * np.pi)) - 0.5
  np.testing.assert_allclose(found.log_likelihood, expected.sum(axis=(1, 2)), rtol=1e-4)
  assert found.kind == 'exact'


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('tests.outside:StudenT', 'has no class \'StudenT\' (did you mean "StudentT"?)'),
    ('tests.outsid:StudentT', 'tests.outsid can not be imported (ModuleNotFoundError'),
    ('tests.outside:NoModel', 'must derive from afslvm.likelihoods.base.ConditionalLikelihood'),
    ('tests.outside:RandomWalk', 'must derive from afslvm.likelihoods.base.ConditionalLikelihood'),
    (':StudentT', 'the module can not be imported'),
    ('gausian', 'did you mean "gaussian"'),
  ],
)
def test_paths_that_lead_to_no_likelihood(name, expected):
  with pytest.raises(ConfigError) as error:
    af.build(own_config({'name': name}))
  assert expected in str(error.value)
  assert len(str(error.value).splitlines()) == 1


def test_options_of_a_class_from_outside_are_checked():
  with pytest.raises(ConfigError, match='degrees=1.0 must be at least 2.1'):
    af.build(own_config({'name': 'tests.outside:StudentT', 'degrees': 1.0}))
  with pytest.raises(ConfigError, match='did you mean "degrees"'):
    af.build(own_config({'name': 'tests.outside:StudentT', 'degree': 5.0}))
