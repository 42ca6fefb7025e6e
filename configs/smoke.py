"""Tiny models that train 60 steps on `moving_digits` in seconds, to try the machinery.

python launch/train.py --config=configs/smoke.py --workdir=runs/smoke

`configs/smoke.py:NAME` is the same for every model: af1 (default), af2, slvm, slvm_af1, slvm_avf1,
srnn, vrnn, svg, svg_avf1, videoflow, videoflow_af (flows in its priors), videoflow_af1 (a flow
around it), glow.
"""

from afslvm.configs import common

CONDITIONER = {'channels': 8, 'encoder_depth': 1, 'decoder_depth': 1, 'patch': 2}
SLVM = common.slvm(
  4,
  encoder={'widths': (8,), 'features': 8},
  decoder={'widths': (8,)},
  prior={'features': 8, 'hidden': 8, 'layers': 1},
  inference={'hidden': 8, 'layers': 1},
  likelihood={},
)
SVG = {
  'frame_encoder': {'name': 'dcgan', 'widths': (8,), 'features': 8},
  'decoder': {'widths': (8,)},
  'prior': {'features': 8},
  'predictor': {'features': 8, 'layers': 1},
  'inference': {'hidden': 8, 'layers': 1},
  'likelihood': {'mean_activation': 'sigmoid'},
}
AVF = {'name': 'iterative', 'features': 8, 'depth': 1}
LAYERS = {'features': 8, 'depth': 1}
RECURRENT = {
  'recurrence': {'features': 8},
  'prior': LAYERS,
  'decoder': LAYERS,
  'encoder': {'depth': 0},
  'inference': {**LAYERS, 'layers': 0},
  'likelihood': {'mean_activation': 'sigmoid'},
}
GLOW = {'levels': 2, 'depth': 2, 'width': 8}
PRIOR_FLOW = {
  'conditioner': {'channels': 8, 'encoder_depth': 1, 'decoder_depth': 1, 'normalization': 'none'}
}


def videoflow(prior: dict, flow: dict | None = None) -> dict:
  return common.videoflow(GLOW, prior, {'width': 8}, flow)


VIDEOFLOW = videoflow({})
MODELS = {
  'af1': (
    13,
    common.temporal_flows(common.standard_normal(), CONDITIONER, [{}]),
  ),
  'af2': (
    16,
    common.temporal_flows(common.standard_normal(), CONDITIONER, [{}, {}]),
  ),
  'slvm': (13, SLVM),
  'slvm_af1': (13, common.temporal_flows(SLVM, CONDITIONER, [{}])),
  'slvm_avf1': (13, {**SLVM, 'inference': common.inference_section(AVF)}),
  'srnn': (13, common.srnn(4, {**RECURRENT, 'embedding': LAYERS})),
  'vrnn': (
    13,
    common.vrnn(4, {**RECURRENT, 'observation_network': LAYERS, 'latent_network': LAYERS}),
  ),
  'svg': (13, common.svg(4, SVG)),
  'svg_avf1': (13, common.svg(4, {**SVG, 'inference': AVF})),
  'videoflow': (13, VIDEOFLOW),
  'videoflow_af': (13, videoflow({'frame': 'flow_last', 'sees': 'both'}, PRIOR_FLOW)),
  'videoflow_af1': (13, common.temporal_flows(VIDEOFLOW, CONDITIONER, [{}])),
  'glow': (13, videoflow({'window': 0, 'frame': 'none'})),
}


def get_config(name: str = 'af1'):
  length, model = common.choose(name, MODELS, 'configs/smoke.py')
  return common.experiment(
    data={**common.MOVING_DIGITS, 'length': length},
    model=model,
    optimizer={'learning_rate': 3e-3},
    train={'num_steps': 60, 'batch_size': 8, 'log_every': 10, 'validation_batches': 2},
  )
