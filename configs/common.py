"""Pieces that configs share. Every key can be overridden: --config.section.key=value."""

from ml_collections import ConfigDict

from afslvm.errors import ConfigError, nearest

# Every option stands here with its default, because only keys that a config has can be overridden.
# A test holds these tables to the fields of the classes they describe.
CONV = {
  'name': 'conv',
  'window': 3,
  'channels': 64,
  'encoder_depth': 4,
  'decoder_depth': 4,
  'normalization': 'batch',
  'patch': 1,
  'skip': False,
  'remat': False,
  'initialization': 'lecun',
  'head_initialization': 'zeros',
  'components': 1,
  'compute_dtype': 'float32',
}
DENSE = {
  'name': 'dense',
  'window': 3,
  'features': 64,
  'depth': 2,
  'constant_scale': False,
  'head_initialization': 'zeros',
  'components': 1,
}
FLOW = {
  'transform': 'affine',
  'boundary': 'context',
  'shift_activation': 'linear',
  'shift_offset': -3.0,
  'log_scale_bound': 'smooth',
  'log_scale_low': -7.0,
  'log_scale_high': 2.0,
}
BOX_FLOW = {**FLOW, 'transform': 'box_logistic', 'log_scale_low': -10.0}
DCGAN_ENCODER = {
  'name': 'dcgan',
  'widths': (64, 128, 256, 512),
  'features': 128,
  'input_bound': 0.0,
  'normalization': 'batch',
  'initialization': 'lecun',
  'last_activation': 'leaky_relu',
  'compute_dtype': 'float32',
}
DCGAN_DECODER = {
  'name': 'dcgan',
  'widths': (512, 256, 128, 64),
  'normalization': 'batch',
  'initialization': 'lecun',
  'compute_dtype': 'float32',
}
VGG_ENCODER = {
  'name': 'vgg',
  'widths': (64, 128, 256, 512),
  'depths': (2, 2, 3, 3),
  'features': 128,
  'normalization': 'batch',
  'initialization': 'lecun',
  'last_activation': 'tanh',
  'compute_dtype': 'float32',
}
VGG_DECODER = {
  'name': 'vgg',
  'widths': (512, 256, 128, 64),
  'depths': (3, 3, 2, 2),
  'normalization': 'batch',
  'initialization': 'lecun',
  'compute_dtype': 'float32',
}
LAYERS = {
  'features': 64,
  'depth': 2,
  'activation': 'relu',
  'dropout': 0.0,
  'initialization': 'lecun',
}
MLP = {'name': 'mlp', **LAYERS}
LATENT_HEADS = {'log_scale_low': -7.5, 'log_scale_high': 2.5, 'head_initialization': ''}
RECURRENCE = {'features': 256, 'cell': 'lstm'}
FRAME_PREDICTOR = {'features': 256, 'layers': 2}
LATENT = {
  'given': 0,
  'clean_inputs': False,
  'prior_conditioning': 'posterior',
  'unroll': 1,
  'remat': False,
}
LSTM_PRIOR = {
  'name': 'lstm',
  'features': 256,
  'depth': 2,
  'hidden': 256,
  'layers': 2,
  'first_step': 'recurrent',
  'log_scale_low': -15.0,
  'log_scale_high': 5.0,
  'initialization': 'lecun',
}
SMOOTHING = {'smoothing': 0, 'smoothing_cell': 'gru'}
DIRECT = {
  'name': 'direct',
  **SMOOTHING,
  'features': 256,
  'depth': 0,
  'activation': 'relu',
  'dropout': 0.0,
  'hidden': 256,
  'layers': 2,
  'residual': False,
  'log_scale_low': -15.0,
  'log_scale_high': 5.0,
  'initialization': 'lecun',
  'head_initialization': '',
}
AT_PRIOR = {'name': 'prior'}
ITERATIVE = {
  'name': 'iterative',
  **SMOOTHING,
  'start': AT_PRIOR,
  'num_iterations': 1,
  'update_rule': 'highway',
  'gradient_encoding': 'layer_norm',
  'estimates': True,
  'errors': False,
  'observation': False,
  'num_draws': 1,
  'features': 1024,
  'depth': 2,
  'gate_bias': 0.0,
  'normalize_mean': False,
  'step_size': 0.1,
  'gradient_scale': 1.0,
  'second_order': True,
  'log_scale_low': -7.5,
  'log_scale_high': 2.5,
  'initialization': 'xavier',
  'head_initialization': 'small',
}
GAUSSIAN = {
  'name': 'gaussian',
  'mean_activation': 'linear',
  'log_scale_bound': 'smooth',
  'log_scale_low': -7.0,
  'log_scale_high': 2.0,
  'initialization': 'lecun',
}
_BINS = {'bin_width': 0.0, 'bins': 'centered'}
DISCRETIZED_GAUSSIAN = {**GAUSSIAN, 'name': 'discretized_gaussian', **_BINS}
BERNOULLI = {'name': 'bernoulli', 'initial_rate': 0.5, 'initialization': 'lecun'}
NADE = {'name': 'nade', 'hidden': 100, 'initial_rate': 0.5, 'initialization': 'lecun'}
GLOW = {
  'levels': 3,
  'depth': 24,
  'width': 512,
  'coupling': 'affine',
  'bound': 'glow',
  'bins': 8,
  'spline_bound': 3.0,
  'activation': 'gated',
  'edge': True,
  'permutation': 'plu',
  'squeeze': 'channels',
  'unroll': 0,
  'remat': False,
  'compute_dtype': 'float32',
}
LEVEL_PRIOR = {
  'window': 3,
  'boundary': 'context',
  'frame': 'last',
  'sees': 'z',
  'log_scale_limit': 8.0,
  'edge': True,
}
_LEVEL_NETWORK = {'activation': 'gated', 'edge': True, 'compute_dtype': 'float32'}
CONV2D_PRIOR = {'name': 'conv2d', 'width': 32, 'depth': 1, **_LEVEL_NETWORK}
CONV3D_PRIOR = {'name': 'conv3d', 'width': 256, 'depth': 5, **_LEVEL_NETWORK}
OBJECTIVE = {
  'bound': 'elbo',
  'num_samples': 1,
  'resample_threshold': 0.5,
  'first_scored': 0,
  'overshooting': 1,
  'overshooting_weight': 1.0,
  'gradients': 'bptt',
  'kl_initial_weight': 1.0,
  'kl_warmup_steps': 0,
  'kl_warmup_power': 1.0,
  'free_nats': 0.0,
  'kl_balance': 0.5,
}
OPTIMIZER = {
  'learning_rate': 1e-4,
  'inference_learning_rate': 0.0,
  'schedule': 'constant',
  'warmup_steps': 0,
  'final_fraction': 0.0,
  'clip_norm': 1.0,
  'weight_decay': 0.0,
  'b1': 0.9,
  'b2': 0.999,
  'eps': 1e-8,
  'ema_decay': 0.0,
}
TRAIN = {
  'num_steps': 1000,
  'batch_size': 16,
  'log_every': 50,
  'eval_every': 0,
  'checkpoint_every': 0,
  'keep_checkpoints': 2,
  'validation_batches': 8,
  'max_skipped': 10,
  'init_batches': 1,
  'accumulate': 1,
  'convolutions': 'auto',
}
DATA = {
  'data_dir': '',
  'source': '',
  'length': 13,
  'min_length': 0,
  'transpose': 0,
  'stateful': False,
  'dequantisation': 'gauss256',
}
MOVING_DIGITS = {
  'name': 'moving_digits',
  'frame_size': 16,
  'num_digits': 1,
  'num_frames': 20,
  'bounces': 'deterministic',
  'speed': 0.15,
  'num_train': 4000,
  'num_validation': 256,
  'num_test': 512,
  'seed': 0,
}
STOCHASTIC_MOVING_MNIST = {
  'name': 'stochastic_moving_mnist',
  'frame_size': 64,
  'num_digits': 2,
  'num_frames': 20,
  'num_train': 8000,
  'num_validation': 500,
  'num_test': 1000,
  'seed': 0,
}
KTH = {'name': 'kth', 'persons': 'avf', 'frame_size': 64}
BAIR = {'name': 'bair', 'camera': 'image_aux1', 'num_validation': 1280}
MUSIC = {
  'jsb': {'name': 'jsb', 'steps_per_beat': 1},
  'piano_midi': {'name': 'piano_midi', 'steps_per_beat': 2},
  'muse_data': {'name': 'muse_data', 'steps_per_beat': 1},
  'nottingham': {'name': 'nottingham', 'steps_per_beat': 2},
}
TIMIT = {'name': 'timit', 'frame_size': 200}
FSDD = {'name': 'fsdd', 'frame_size': 200}
AUDIO_FOLDER = {
  'name': 'audio_folder',
  'label': 'sounds',
  'frame_size': 200,
  'percent_validation': 10,
  'percent_test': 10,
}
VIDEO_FOLDER = {
  'name': 'video_folder',
  'label': 'videos',
  'frame_size': 64,
  'color': 'rgb',
  'num_frames': 20,
  'stride': 0,
  'min_frames': 0,
  'fit': 'squeeze',
  'percent_validation': 10,
  'percent_test': 10,
}


def experiment(
  *, data: dict, model: dict, optimizer: dict, train: dict, objective: dict | None = None
) -> ConfigDict:
  """A whole config; what isn't given has the defaults above."""
  return ConfigDict(
    {
      'seed': 0,
      'data': {**DATA, **data},
      'model': model,
      'objective': {**OBJECTIVE, **(objective or {})},
      'optimizer': {**OPTIMIZER, **optimizer},
      'train': {**TRAIN, **train},
    }
  )


def standard_normal() -> dict:
  """The base of standalone flows."""
  return {'name': 'standard_normal'}


def slvm(
  latent_shape: int,
  *,
  encoder: dict,
  decoder: dict,
  prior: dict,
  inference: dict,
  likelihood: dict,
) -> dict:
  """SLVM; sections without a name are DCGAN, LSTM, direct and Gaussian."""
  mlp = {'encoder': encoder.get('name') == 'mlp', 'decoder': decoder.get('name') == 'mlp'}
  return {
    'name': 'slvm',
    'latent_shape': latent_shape,
    **LATENT,
    'encoder': {**(MLP if mlp['encoder'] else DCGAN_ENCODER), **encoder},
    'decoder': {**(MLP if mlp['decoder'] else DCGAN_DECODER), **decoder},
    'prior': prior if prior.get('name') == 'temporal_flow' else {**LSTM_PRIOR, **prior},
    'inference': inference_section(inference),
    'likelihood': likelihood_section(likelihood),
  }


def srnn(latent_shape: int, parts: dict, **options) -> dict:
  """SRNN; `parts` are embedding, recurrence, prior, decoder, encoder, inference and likelihood."""
  return {
    'name': 'srnn',
    'latent_shape': latent_shape,
    **LATENT,
    'posterior_sees_latent': False,
    'dropout': 0.0,
    **options,
    'embedding': {**LAYERS, **parts['embedding']},
    **_recurrent_parts(parts),
  }


def vrnn(latent_shape: int, parts: dict, **options) -> dict:
  """VRNN; `parts` are those of SRNN, observation_network and latent_network for embedding."""
  return {
    'name': 'vrnn',
    'latent_shape': latent_shape,
    **LATENT,
    **options,
    'observation_network': {**LAYERS, **parts['observation_network']},
    'latent_network': {**LAYERS, **parts['latent_network']},
    **_recurrent_parts(parts),
  }


def svg(latent_shape: int, parts: dict, **options) -> dict:
  """SVG; `parts` are frame_encoder, decoder, prior, predictor, inference and likelihood.

  Encoder and decoder are VGG's, or DCGAN's where the first is; the inference is shown encoded
  frames.
  """
  dcgan = parts['frame_encoder'].get('name') == 'dcgan'
  return {
    'name': 'svg',
    'latent_shape': latent_shape,
    **LATENT,
    'skips': 'context',
    'num_skip_frames': 5,
    **options,
    'frame_encoder': {
      **(DCGAN_ENCODER if dcgan else VGG_ENCODER),
      'last_activation': 'tanh',
      **parts['frame_encoder'],
    },
    'decoder': {**(DCGAN_DECODER if dcgan else VGG_DECODER), **parts['decoder']},
    'prior': {**RECURRENCE, **LATENT_HEADS, **parts['prior']},
    'predictor': {**FRAME_PREDICTOR, **parts['predictor']},
    'encoder': {'name': 'none'},
    'inference': inference_section(parts['inference']),
    'likelihood': likelihood_section(parts['likelihood']),
  }


def videoflow(glow: dict, prior: dict, network: dict, flow: dict | None = None) -> dict:
  """VideoFlow; `network` is `conv2d` unless named, `flow` is that of frames `flow`, `flow_last`.

  The keys of `flow` are those of a temporal flow on x, its `conditioner` among them.
  """
  named = {section['name']: section for section in (CONV2D_PRIOR, CONV3D_PRIOR)}
  section = {**LEVEL_PRIOR, **prior}
  section['network'] = {**named[network.get('name', 'conv2d')], **network}
  if flow is not None:
    conditioner = {**CONV, **flow.get('conditioner', {})}
    section['flow'] = {**FLOW, 'boundary': 'learned', **flow, 'conditioner': conditioner}
  return {'name': 'videoflow', 'glow': {**GLOW, **glow}, 'prior': section}


def _recurrent_parts(parts: dict) -> dict:
  return {
    'recurrence': {**RECURRENCE, **parts['recurrence']},
    'prior': {**LAYERS, **LATENT_HEADS, **parts['prior']},
    'decoder': {**LAYERS, **parts['decoder']},
    'encoder': {**MLP, **parts['encoder']},
    'inference': inference_section(parts['inference']),
    'likelihood': likelihood_section(parts['likelihood']),
  }


def inference_section(given: dict) -> dict:
  """Direct unless named; `start` of an iterative one is a section of the same kind."""
  if given.get('name') != 'iterative':
    return {**DIRECT, **given}
  start = given.get('start', AT_PRIOR)
  if start != AT_PRIOR:
    start = inference_section(start)
  return {**ITERATIVE, **given, 'start': start}


def likelihood_section(given: dict) -> dict:
  """Gaussian unless named; of a class named by its path every option is as the class has it."""
  sections = (GAUSSIAN, DISCRETIZED_GAUSSIAN, BERNOULLI, NADE)
  named = {section['name']: section for section in sections}
  return {**named.get(given.get('name', 'gaussian'), {}), **given}


def prior_flow(base: dict, conditioner: dict, flow: dict) -> dict:
  """A temporal flow in the prior of z (AF paper Eq. 15 on z), around an LSTM prior."""
  return {
    'name': 'temporal_flow',
    **FLOW,
    'boundary': 'learned',
    **flow,
    'conditioner': {**DENSE, **conditioner},
    'base': {**LSTM_PRIOR, **base},
  }


def temporal_flows(base: dict, conditioner: dict, flows: list[dict]) -> dict:
  """Temporal flows around `base`, nearest the data first, with one `CONV` or `DENSE` network."""
  defaults = DENSE if conditioner.get('name') == 'dense' else CONV
  for flow in reversed(flows):
    transform = BOX_FLOW if flow.get('transform') == 'box_logistic' else FLOW
    own = {**transform, **flow, 'conditioner': {**defaults, **conditioner}}
    base = {'name': 'temporal_flow', **own, 'base': base}
  return base


def choose(argument: str, variants: dict, file: str):
  """The variant that 'FILE.py:ARGUMENT' names."""
  if argument not in variants:
    hint = nearest(argument, variants) or f'; it has {", ".join(sorted(variants))}'
    raise ConfigError(f'{file} has no variant {argument!r}{hint}')
  return variants[argument]
