"""`import afslvm as af`: the names give what the engine gives, and mistakes are one sentence."""

import ast
import json
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import setuptools

import afslvm as af
from afslvm.errors import AfslvmError, ConfigError
from afslvm.evaluation.contract import LikelihoodResult
from afslvm.training import checkpoint
from afslvm.transforms import preprocessing

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
PYTHON = re.findall(r'^```python\n(.*?)^```$', README, re.MULTILINE | re.DOTALL)
FEW = {'train.num_steps': 4, 'train.batch_size': 4}


@pytest.fixture(scope='module')
def flow_run(smoke_run, environment):
  """1-AF on frames: an exact likelihood, three steps are given."""
  return af.load_run(smoke_run, data_dir=environment['TFDS_DATA_DIR'])


@pytest.fixture(scope='module')
def latent_run(tmp_path_factory, environment):
  """SLVM + 1-AF on frames, trained for a few steps by `af.train`."""
  folder = tmp_path_factory.mktemp('runs') / 'slvm_af1'
  given = {'data.data_dir': environment['TFDS_DATA_DIR'], **FEW}
  return af.train('smoke:slvm_af1', folder, given)


def stored(run, count=2):
  return np.stack([run.data['test'][index] for index in range(count)])


# ---- names ---------------------------------------------------------------------------------------


def test_every_name_is_there_and_imported_when_used():
  assert len(af.__all__) == len(set(af.__all__)) < 30
  assert set(af.__all__) <= set(dir(af))
  for name in af.__all__:
    assert getattr(af, name).__name__ == name
  with pytest.raises(AttributeError, match='SRN'):
    af.SRN  # noqa: B018


def test_editors_see_the_same_names():
  tree = ast.parse((ROOT / 'afslvm' / '__init__.py').read_text(encoding='utf-8'))
  found = {}
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and node.module.startswith('afslvm'):
      found |= {alias.name: node.module for alias in node.names}
  assert found == af._HOMES


def test_importing_is_light():
  code = 'import afslvm, sys; print(*{name.split(".")[0] for name in sys.modules})'
  found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  heavy = {'jax', 'flax', 'numpy', 'optax', 'absl', 'ml_collections', 'tensorflow_datasets'}
  assert not heavy & set(found.stdout.split())


def test_configs_are_installed_with_the_package():
  packages = setuptools.find_packages(str(ROOT), include=['afslvm', 'afslvm.*'])
  folders = {path.parent.name for path in (ROOT / 'configs').glob('*/*.py')}
  assert {'afslvm.configs', *(f'afslvm.configs.{name}' for name in folders)} <= set(packages)


# ---- configs by name -----------------------------------------------------------------------------


def test_a_config_by_name_by_path_and_as_values_is_the_same(tmp_path, monkeypatch):
  by_name = af.build('moving_digits/slvm_af1')
  by_path = af.build(ROOT / 'configs/moving_digits/slvm_af1.py')
  by_values = af.build(json.loads(json.dumps(by_name.config)))
  monkeypatch.chdir(tmp_path)
  elsewhere = af.build('configs/moving_digits/slvm_af1.py')
  assert by_name.config == by_path.config == by_values.config == elsewhere.config
  assert by_name.model == by_values.model
  assert af.build('smoke:vrnn').config['model']['name'] == 'vrnn'


def test_overrides_are_followed_by_what_depends_on_them():
  built = af.build('jsb/srnn', {'train.num_steps': 80, 'optimizer.learning_rate': 1})
  assert built.objective.kl_warmup_steps == 10
  assert built.optimizer.learning_rate == 1.0
  assert isinstance(built.make_optimizer(), optax.GradientTransformation)
  assert built.dataset.name == 'jsb'


@pytest.mark.parametrize(
  ('config', 'overrides', 'expected'),
  [
    ('moving_digit/slvm_af1', {}, 'did you mean "moving_digits/slvm_af1"'),
    ('smoke:slv', {}, "no variant 'slv' (did you mean"),
    (7, {}, 'config=7 must be a ConfigDict, a dict, a file or a name'),
    ({'seed': 0}, {}, 'config.data is missing'),
    ('smoke', {'train.num_step': 7}, 'did you mean "num_steps"'),
    ('smoke', {'train.num_steps': 'many'}, "config.train.num_steps='many' must be of type int"),
  ],
)
def test_mistakes_in_configs(config, overrides, expected):
  with pytest.raises(ConfigError) as error:
    af.build(config, overrides)
  assert expected in str(error.value)
  assert len(str(error.value).splitlines()) == 1


# ---- a trained run -------------------------------------------------------------------------------


def test_a_run_is_what_was_trained(latent_run, environment):
  again = af.load_run(latent_run.path, data_dir=environment['TFDS_DATA_DIR'])
  assert again.config == latent_run.config
  assert again.model == latent_run.model
  assert again.label == 'SLVM + 1-AF'
  assert again.checkpoint['step'] == FEW['train.num_steps']
  sha256 = checkpoint.tree_sha256(again.variables['params'])
  assert sha256 == again.checkpoint['parameters_sha256']
  assert again.variables is again.variables
  x = again.data['test'][0]
  assert (x.shape, x.dtype) == ((20, *again.model.event_shape), np.uint8)
  with pytest.raises(ConfigError, match='did you mean "test"'):
    again.data['tests']


def test_training_again_finds_the_run_trained(latent_run):
  again = af.train(latent_run.built, latent_run.path)
  assert again.checkpoint == latent_run.checkpoint


def test_evaluate_gives_the_results_and_keeps_them(flow_run):
  results = af.evaluate(flow_run, num_sequences=32, batch_size=16)
  assert [result.name for result in results][:2] == ['1-AF', 'static Gaussian']
  assert results[0].num_sequences == 32
  path = flow_run.path / 'evaluation' / 'af_paper.json'
  written = json.loads(path.read_text())['results']
  assert [LikelihoodResult.from_json(result) for result in written] == results
  before = path.stat().st_mtime_ns
  assert flow_run.evaluate('af_paper', num_sequences=32, batch_size=16) == results
  assert path.stat().st_mtime_ns == before
  with pytest.raises(ConfigError, match='did you mean "num_samples"'):
    af.evaluate(flow_run, num_sample=2)


# ---- own arrays ----------------------------------------------------------------------------------


@pytest.mark.parametrize('which', ['flow_run', 'latent_run'])
def test_score_is_the_terms_of_the_model(which, request):
  run = request.getfixturevalue(which)
  x = stored(run)
  noise, key = jax.random.split(jax.random.key(3))
  values = preprocessing.dequantise(noise, x, 'gauss256')
  terms = run.model.apply(run.variables, values, rngs={'sample': key})
  found = run.score(x, seed=3)
  np.testing.assert_allclose(found.log_likelihood, terms.elbo.sum(axis=1), rtol=1e-5)
  np.testing.assert_allclose(found.kl, terms.kl.sum(axis=1), rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(found.steps, [17, 17])
  per_dim = -terms.elbo.sum(axis=1) / (17 * 256) + np.log(256)
  np.testing.assert_allclose(found.nats_per_dim, per_dim, rtol=1e-5)
  np.testing.assert_allclose(found.bits_per_dim, per_dim / np.log(2), rtol=1e-5)
  assert found.kind == run.model.bound
  assert f'{found.nats_per_dim.mean():.3f} nats/dim' in str(found)
  assert ('≤' in str(found)) == (which == 'latent_run')
  by_hand = af.elbo(run.model, run.variables, values, key)
  np.testing.assert_allclose(by_hand.loss, -terms.elbo.sum() / 34, rtol=1e-5)


def test_padding_is_not_scored(latent_run):
  x = stored(latent_run)
  mask = np.arange(20) < np.array([[20], [12]])
  other = np.where(mask[..., None, None, None], x, 255 - x)
  found, same = latent_run.score(x, mask), latent_run.score(other, mask)
  np.testing.assert_array_equal(found.steps, [17, 9])
  np.testing.assert_allclose(found.log_likelihood, same.log_likelihood, rtol=1e-6)


def test_bounds_of_samples(flow_run, latent_run):
  """Tighter on average; of an exact likelihood the same."""
  x = stored(latent_run, 4)[:, :8]
  plain, exact = latent_run.score(x), flow_run.score(x)
  for bound in ('iwae', 'fivo'):
    found = latent_run.score(x, bound=bound, num_samples=4)
    assert found.kind == f'{bound}-4'
    np.testing.assert_array_equal(found.scored, plain.scored)
    assert np.isfinite(found.log_likelihood).all()
    same = flow_run.score(x, bound=bound, num_samples=4)
    assert same.kind == 'exact'
    np.testing.assert_allclose(same.log_likelihood, exact.log_likelihood, rtol=1e-5)
  assert latent_run.score(x, bound='iwae', num_samples=16).loss < plain.loss + 0.5


def test_latents_are_those_of_the_terms(latent_run):
  x = stored(latent_run)
  noise, key = jax.random.split(jax.random.key(5))
  values = preprocessing.dequantise(noise, x, 'gauss256')
  terms = latent_run.model.apply(latent_run.variables, values, rngs={'sample': key})
  found = af.latents(latent_run, x, seed=5)
  q, prior = terms.latents.posterior, terms.latents.prior
  assert found.mean.shape == (2, 20, 4)
  close = {'rtol': 1e-4, 'atol': 1e-5}
  np.testing.assert_allclose(found.mean, q.loc, **close)
  np.testing.assert_allclose(found.scale, np.exp(q.log_scale), **close)
  np.testing.assert_allclose(found.z, terms.latents.z, **close)
  np.testing.assert_allclose(found.prior_mean, prior.loc, **close)
  np.testing.assert_allclose(found.prior_scale, np.exp(prior.log_scale), **close)
  np.testing.assert_array_equal(found.scored, terms.scored)
  assert found.scored.sum() == 34


def test_a_continuation_is_that_of_the_model(latent_run):
  context = stored(latent_run)[:, :5]
  noise, key = jax.random.split(jax.random.key(2))
  values = preprocessing.dequantise(noise, context, 'gauss256')
  expected = latent_run.model.apply(
    latent_run.variables, values, 3, 0.5, rngs={'sample': key}, method='generate'
  )
  found = af.generate(latent_run, context, 3, temperature=0.5, seed=2)
  assert found.shape == (2, 3, *latent_run.model.event_shape)
  np.testing.assert_allclose(found, np.clip(expected, 0, 1), rtol=1e-4, atol=1e-4)
  pair = latent_run.generate(context, 3, temperature=(1.0, 0.0), seed=2)
  assert pair.min() >= 0
  assert pair.max() <= 1


@pytest.mark.parametrize(
  ('change', 'expected'),
  [
    (lambda x: x / 255, 'x has dtype float64, this run is of 8-bit data; give uint8 in 0..255'),
    (lambda x: x.astype(int) + 1, 'this run is of 8-bit data; give values in 0..255'),
    (lambda x: x[0], 'this model takes [B, T, 16, 16, 1]; for one sequence use x[None]'),
    (lambda x: x[..., 0], '; add the channel: x[..., None]'),
    (lambda x: np.moveaxis(x, 4, 2), 'move the channels to the end: np.moveaxis(x, 2, -1)'),
    (lambda x: x[:, :, :8], 'x has shape (2, 20, 8, 16, 1)'),
    (lambda x: x[:, :3], 'x has 3 steps, which leaves nothing to score after the 3'),
  ],
)
def test_mistakes_in_arrays_are_one_sentence(change, expected, latent_run):
  x = np.full((2, 20, 16, 16, 1), 255, np.uint8)
  for ask in (latent_run.score, latent_run.latents):
    with pytest.raises((ConfigError, ValueError)) as error:
      ask(change(x))
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_other_mistakes_are_one_sentence(flow_run, latent_run):
  x = stored(latent_run)
  asked = {
    'context has 2 steps, which is too short: this model needs 3': lambda: af.generate(
      latent_run, x[:, :2], 3
    ),
    'num_steps=0 must be': lambda: af.generate(latent_run, x[:, :5], 0),
    'context has shape (20, 16, 16, 1)': lambda: af.generate(latent_run, x[0], 3),
    'has no latent variables': lambda: af.latents(flow_run, x),
    "bound='iwa' is unknown": lambda: flow_run.score(x, bound='iwa', num_samples=2),
    'iwae and fivo need num_samples': lambda: flow_run.score(x, bound='iwae'),
    'mask has shape (2, 3)': lambda: flow_run.score(x, np.ones((2, 3), bool)),
    'a model takes floats': lambda: af.elbo(
      flow_run.model, flow_run.variables, x, jax.random.key(0)
    ),
  }
  for expected, ask in asked.items():
    with pytest.raises((AfslvmError, ValueError), match=re.escape(expected)) as error:
      ask()
    assert len(str(error.value).splitlines()) == 1


# ---- a training loop of one's own ----------------------------------------------------------------


def test_a_training_loop_takes_ten_lines():
  """A flow learns to difference a random walk: what is left is noise, whose entropy is known."""
  steps = np.random.default_rng(0).standard_normal((64, 12, 2), np.float32)
  x = steps.cumsum(axis=1)
  conditioner = af.DenseConditioner((2,), window=1, depth=0, constant_scale=True)
  flow = af.AutoregressiveAffine(conditioner)
  model = af.TemporalFlow((2,), base=af.StandardNormal((2,)), flow=flow)

  variables = model.init(jax.random.key(0), x, method='initialize')
  optimizer = optax.adam(0.05)
  state = optimizer.init(variables)

  @jax.jit
  def step(variables, state, key):
    loss, gradient = jax.value_and_grad(lambda v: af.elbo(model, v, x, key).loss)(variables)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(variables, updates), state, loss

  for n in range(200):
    variables, state, loss = step(variables, state, jax.random.key(n))
  assert abs(loss - np.log(2 * np.pi * np.e)) < 0.1


def test_training_mode_updates_batch_statistics(latent_run):
  key, x = jax.random.key(0), jnp.asarray(stored(latent_run), jnp.float32) / 255
  variables = latent_run.variables
  plain = af.elbo(latent_run.model, variables, x, key)
  trained = af.elbo(latent_run.model, variables, x, key, training=True)
  assert plain.updated == {}
  assert jax.tree.structure(trained.updated) == jax.tree.structure(
    {name: value for name, value in variables.items() if name != 'params'}
  )
  old, new = (v['batch_stats'] for v in (variables, trained.updated))
  assert not jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), old, new))


# ---- the README ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason='the README has no Python')
def test_python_of_the_readme_runs(environment, tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', '\n'.join(PYTHON)],
    cwd=tmp_path,
    env={**environment, 'AFSLVM_SMOKE': '1'},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr[-2000:]
