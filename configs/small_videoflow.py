"""VideoFlow for two cores, by variant: alone, with flows in its priors, or with one around it.

Against the published one (`paper_videoflow`): 4 steps of flow of width 32 at each level, priors
that are convolutions over stacked past latents in two dimensions, a rate of 2e-3 with warm-up and
cosine decay, gradients that are clipped where they explode, and a smooth bound of the priors'
log-scales.
"""

from afslvm.configs import common, small_flows

GLOW = {'depth': 4, 'width': 32}
NETWORK = {'width': 32, 'depth': 1}
# The flow in each level's prior, on maps of latents.
PRIOR_FLOW = {
  'conditioner': {'channels': 16, 'encoder_depth': 1, 'decoder_depth': 2, 'normalization': 'none'}
}
INDEPENDENT = {'window': 0, 'frame': 'none'}
# (prior of each level, flow in it, transform of the flow around the model or '' for none)
VARIANTS = {
  'videoflow': ({}, None, ''),
  'videoflow_af': ({'frame': 'flow_last', 'sees': 'both'}, PRIOR_FLOW, ''),
  'videoflow_af1': ({}, None, 'affine'),
  'videoflow_af1_box': ({}, None, 'box_logistic'),
  'glow': (INDEPENDENT, None, ''),
  'glow_af1': (INDEPENDENT, None, 'affine'),
}


def get_config(
  variant: str, data: dict, train: dict, levels: int, prior_width: int = 32, remat: bool = False
):
  """Returns the config of a variant.

  Args:
    variant: one of `VARIANTS`.
    data: section.
    train: section.
    levels: of the flow.
    prior_width: of the priors' networks.
    remat: whether gradients compute each step of flow again, which is faster at 64 x 64.
  """
  prior, prior_flow, transform = VARIANTS[variant]
  glow, network = {**GLOW, 'levels': levels, 'remat': remat}, {**NETWORK, 'width': prior_width}
  model = common.videoflow(glow, prior, network, prior_flow)
  if transform:
    on_data = [{**flow, 'boundary': 'learned'} for flow in small_flows.flows(1, transform)]
    model = common.temporal_flows(model, small_flows.CONDITIONER, on_data)
  config = common.experiment(
    data={'length': 12, 'dequantisation': 'uniform', **data},
    model=model,
    optimizer={
      'learning_rate': 2e-3,
      'schedule': 'cosine',
      'final_fraction': 0.02,
      'clip_norm': 10000.0,  # of a loss of hundreds of nats per step
    },
    train={'batch_size': 12, 'init_batches': 2, 'log_every': 50, 'eval_every': 250, **train},
  )
  config.optimizer.warmup_steps = config.train.get_ref('num_steps') // 20
  return config
