"""Numbers about a model's health, where the answers are known, and the sentences made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afslvm.evaluation import diagnostics
from afslvm.evaluation.correlation import temporal_correlation
from afslvm.models.base import StepTerms
from tests import constructors
from tests import linear_gaussian as lg
from tests.evaluation import known_models as known


def diagnose(model, variables, x, mask=None):
  mask = jnp.ones(x.shape[:2], bool) if mask is None else mask
  return diagnostics.diagnose(model, variables, x, mask, jax.random.key(0))


def linear_gaussian(count=1500, steps=6, **inference):
  x = jnp.array(lg.sequences(count, steps), jnp.float32)
  return diagnose(lg.make(**inference), {}, x)


def said(values, *before):
  return ' '.join(diagnostics.sentences([*before, {'step': 400, **values}]))


def test_a_posterior_that_equals_the_prior():
  values = linear_gaussian(blind=True)
  assert values['kl'] == pytest.approx(0, abs=1e-6)
  np.testing.assert_allclose(values['kl_per_step'], 0, atol=1e-6)
  assert len(values['kl_per_step']) == 6
  assert abs(values['predictive_gap']) < 0.3  # of draws; thirty times as much below
  sentence = said(values)
  assert 'posterior equals prior: KL 0.00 nats/step since step 400' in sentence
  assert 'kl_warmup_steps' in sentence


def test_a_posterior_that_knows_more():
  """The gap is what prior draws lose; the divergence that of the closed form at step 1."""
  values = linear_gaussian()
  _, emission, _, observed, first = lg.PARAMETERS
  gain = (emission * first / observed) ** 2
  expected = 0.5 * np.log1p(gain).sum()  # of the posterior of z_1 given x_1, averaged over x_1
  assert values['kl_per_step'][0] == pytest.approx(expected, rel=0.05)
  assert values['predictive_gap'] > 1
  assert (values['active_units'], values['latent_size']) == (2, 2)
  assert values['kl'] == pytest.approx(np.mean(values['kl_per_step']), rel=1e-5)
  assert said(values) == ''
  assert 'residual_correlation' not in values
  assert 'saturation/likelihood' not in values  # nothing is learned


def slvm_case(model=None, scale=0.5):
  model = model or constructors.slvm()
  x = constructors.data(model, batch=6, steps=6)
  return model, constructors.randomized(model, x, scale=scale), x


def replaced(tree, path, value):
  """A copy of a tree of parameters with one leaf made anew."""
  if not path:
    return value(tree)
  return {**tree, path[0]: replaced(tree[path[0]], path[1:], value)}


@pytest.mark.parametrize('idle', [0, 1, 2])
def test_active_units(idle):
  """Units whose posterior is their prior aren't counted, however much that prior moves."""
  model, variables, x = slvm_case(constructors.slvm(residual=True))
  for name in ('kernel', 'bias'):
    for path in (('inference', 'loc'), ('inference', 'log_scale'), ('dynamics', 'log_scale')):
      place = ('params', path[0], 'heads', path[1], name)
      variables = replaced(variables, place, lambda leaf: leaf.at[..., :idle].set(0.0))
  values = diagnose(model, variables, x)
  assert values['active_units'] == 2 - idle
  sentence = said({**values, 'kl': 5.0, 'saturation/likelihood': 0.0})
  assert ('no latent unit is active' in sentence) == (idle == 2)


def test_saturated_log_scales():
  model = constructors.flows(1, constructors.dense(), base=constructors.slvm())
  model, variables, x = slvm_case(model, scale=0.1)
  head = ('params', 'base', 'likelihood', 'log_scale_head', 'dense', 'kernel')
  variables = replaced(variables, head, jnp.zeros_like)
  values = diagnose(model, variables, x)
  assert values['saturation/flow 1'] == values['saturation/likelihood'] == 0
  head = ('params', 'base', 'likelihood', 'log_scale_head', 'dense', 'bias')
  third = replaced(variables, head, lambda leaf: leaf.at[0].set(50.0))
  values = diagnose(model, third, x)
  assert values['saturation/likelihood'] == pytest.approx(1 / 3)
  assert values['saturation/flow 1'] == 0
  assert '33% of the log-scales of likelihood lie at a bound' in said(values)
  head = ('params', 'flow', 'conditioner', 'log_scale_head', 'bias')
  values = diagnose(model, replaced(variables, head, lambda leaf: leaf - 50.0), x)
  assert values['saturation/flow 1'] == 1
  assert '100% of the log-scales of flow 1 lie at a bound' in said(values)


def test_saturated_scales_of_latent_variables():
  """Those of the prior and those of the posterior, each by itself, without padding."""
  model, variables, x = slvm_case(constructors.flows(1, constructors.dense(), constructors.slvm()))
  low, high = model.core.prior_log_scale_bounds
  heads = {
    'prior': ('params', 'base', 'dynamics', 'heads', 'log_scale'),
    'posterior': ('params', 'base', 'inference', 'heads', 'log_scale'),
  }
  for path in heads.values():
    variables = replaced(variables, (*path, 'kernel'), jnp.zeros_like)
  values = diagnose(model, variables, x)
  assert values['saturation/prior'] == values['saturation/posterior'] == 0
  for part, path in heads.items():
    for bound in (low - 5, high + 5):
      half = replaced(variables, (*path, 'bias'), lambda leaf, to=bound: leaf.at[0].set(to))
      values = diagnose(model, half, x, jnp.ones(x.shape[:2], bool).at[1, 4:].set(False))
      (other,) = heads.keys() - {part}
      assert values[f'saturation/{part}'] == pytest.approx(0.5)
      assert values[f'saturation/{other}'] == 0
      sentence = said({**values, 'kl': 5.0})
      assert f'50% of the log-scales of {part} lie at a bound; those that are clipped' in sentence
      for word in ('log_scale_high', 'objective.kl_warmup_steps'):
        assert word in sentence
      assert 'update_rule' not in sentence  # there are no iterations
      assert diagnostics.recorded(values)[f'saturation/{part}'] == values[f'saturation/{part}']


def test_what_helps_latent_scales_under_avf():
  """AVF with a normalised mean has run into the clip, where the gated update did not."""
  values = {'kl': 5.0, 'free_energy_per_iteration': [9.0, 8.0], 'saturation/prior': 1.0}
  sentence = said(values)
  assert '100% of the log-scales of prior' in sentence
  assert "update_rule='highway' with normalize_mean=False" in sentence
  assert said({**values, 'saturation/prior': 0.04}) == ''


def test_likelihoods_without_scales_have_none_at_a_bound():
  model = constructors.srnn(likelihood=constructors.Bernoulli(constructors.VECTOR))
  model, variables, _ = slvm_case(model)
  values = diagnose(model, variables, jnp.ones((3, 4, 3)))
  shares = {key for key in values if key.startswith('saturation/')}
  assert shares == {'saturation/prior', 'saturation/posterior'}


def test_what_the_flows_leave():
  """An identity flow leaves all of it: the correlation is that of the data's scored steps."""
  model = constructors.flows(2, constructors.dense())
  x = jnp.cumsum(jax.random.normal(jax.random.key(0), (6, 12, 3)), axis=1)
  variables = model.init({'params': jax.random.key(0)}, x, method='initialize')
  values = diagnose(model, variables, x)
  expected = temporal_correlation(np.asarray(x)[:, model.min_context :])
  assert values['residual_correlation'] == pytest.approx(expected, rel=1e-5)
  assert {'kl', 'predictive_gap', 'active_units'}.isdisjoint(values)
  assert f'temporal correlation of {expected:.2f}' in said(values)


class WithEnergies(known.Known):
  """Sows energies like an iterative inference, within a flow or without."""

  def sequence_terms(self, x, mask):
    self.sow('diagnostics', 'free_energy', jnp.stack([x[..., 0], x[..., 0] - 2.0], axis=-1))
    zeros = jnp.zeros(mask.shape)
    self.sow('diagnostics', 'saturation', zeros)
    return StepTerms(zeros, zeros, zeros, mask)


@pytest.mark.parametrize('num_flows', [0, 1])
def test_free_energy_of_iterations(num_flows):
  """The mean over scored steps, before and after."""
  base = WithEnergies((3,))
  model = constructors.flows(num_flows, constructors.dense(), base=base) if num_flows else base
  x = jax.random.normal(jax.random.key(0), (4, 7, 3))
  mask = jnp.ones((4, 7), bool).at[1, 5:].set(False).at[2].set(False)
  variables = model.init({'params': jax.random.key(0)}, x, method='initialize')
  found = diagnose(model, variables, x, mask)['free_energy_per_iteration']
  counted = mask.at[:, : model.min_context].set(False)
  expected = float(x[..., 0][counted].mean())  # the flow is the identity
  np.testing.assert_allclose(found, [expected, expected - 2], rtol=1e-5, atol=1e-6)
  record = {'free_energy_per_iteration': found}
  assert diagnostics.recorded(record) == record


@pytest.mark.parametrize(('energies', 'wrong'), [([9.0, 8.0], False), ([9.0, 8.0, 9.5], True)])
def test_iterations_should_lower_the_free_energy(energies, wrong):
  sentence = said({'free_energy_per_iteration': energies})
  assert ('inference iterations do not lower the free energy: 9.00' in sentence) == wrong


def test_padding_is_left_out():
  x = jnp.array(lg.sequences(6, 5), jnp.float32)
  mask = jnp.ones((6, 5), bool).at[:, 4].set(False).at[2].set(False)
  given = {'noise': {'latent': jnp.array([0.4, -1.1])}}
  values = diagnose(lg.make(), given, x.at[:, 4].set(99.0).at[2].set(jnp.nan), mask)
  rest = jnp.array([0, 1, 3, 4, 5])
  expected = diagnose(lg.make(), given, x[rest, :4])
  assert len(values['kl_per_step']) == 4
  np.testing.assert_allclose(values['kl_per_step'], expected['kl_per_step'], rtol=1e-5)
  assert values['kl'] == pytest.approx(expected['kl'], rel=1e-5)
  assert values['active_units'] == expected['active_units']
  assert np.isfinite(values['predictive_gap'])


def test_the_step_since_which_it_has_been_so():
  history = [{'step': n, 'kl': kl} for n, kl in ((0, 0.0), (100, 2.0), (200, 0.05), (300, 0.02))]
  assert 'KL 0.02 nats/step since step 200' in ' '.join(diagnostics.sentences(history))
  assert 'since step 0' in ' '.join(diagnostics.sentences(history[:1]))
  assert not diagnostics.sentences(history[:2])
  assert not diagnostics.sentences([])


def test_a_model_without_latent_variables_has_nothing_wrong():
  assert not diagnostics.sentences([{'step': 3, 'saturation/flow 1': 0.01}])


def test_what_was_not_finite_is_left_out_of_the_history():
  """A resumed run reads its validations back, where NaN is null."""
  found = diagnostics.recorded({'step': 1, 'kl': None, 'active_units': 2, 'kl_per_step': [None]})
  assert found == {'active_units': 2}
  history = [{'step': n, **diagnostics.recorded({'kl': kl})} for n, kl in ((1, None), (2, 0.05))]
  assert 'since step 2' in ' '.join(diagnostics.sentences(history))
