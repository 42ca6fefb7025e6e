"""The AF paper's models computed again, from arrays under PyTorch's names and in its layouts."""

import numpy as np

PREFIX = 'cond_like.transforms.'


# ---- an independent computation, in the layouts of PyTorch ---------------------------------------


def convolve(x, weight, bias):
  """Cross-correlation of [N, C, H, W] with a kernel OIHW 3 x 3, zero-padded."""
  height, width = x.shape[2:]
  padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
  out = np.zeros((len(x), len(weight), height, width)) + bias[:, None, None]
  for i in range(3):
    for j in range(3):
      shifted = padded[:, :, i : i + height, j : j + width]
      out += np.einsum('oc,nchw->nohw', weight[:, :, i, j], shifted)
  return out


def block(x, weights, name):
  """Convolution, BatchNorm in evaluation mode, ReLU."""
  w = {k.removeprefix(f'{name}.main.'): v[:, None, None] for k, v in weights.items() if name in k}
  x = convolve(x, weights[f'{name}.main.0.weight'], weights[f'{name}.main.0.bias'])
  x = (x - w['1.running_mean']) / np.sqrt(w['1.running_var'] + 1e-5) * w['1.weight'] + w['1.bias']
  return np.maximum(x, 0)


def chain_of_blocks(x, weights, half):
  x = block(x, weights, f'network.init_{half}')
  k = 0
  while f'network.{half}.{k}.main.0.weight' in weights:
    x, k = block(x, weights, f'network.{half}.{k}'), k + 1
  return x


def transform(level, weights, window):
  """One flow over [T, B, C, H, W]: shift, scale and y of the frames after the window."""
  shifts, scales = [], []
  for t in range(window, len(level)):
    past = [chain_of_blocks(level[t - window + k], weights, 'encoder') for k in range(window)]
    h = chain_of_blocks(np.concatenate(past, axis=1), weights, 'decoder')
    shifts.append(
      convolve(h, weights['network.shift_net.weight'], weights['network.shift_net.bias'])
    )
    raw = convolve(
      h, weights['network.log_scale_net.weight'], weights['network.log_scale_net.bias']
    )
    scales.append(np.minimum(np.exp(raw), 10.0))
  shift, scale = np.stack(shifts), np.stack(scales)
  return shift, scale, (level[window:] - shift) / scale


def reference_terms(x, weights, num_flows, window):
  """Shift and scale per flow from the data on, the last y, and nats per frame, all frames last."""
  level, shown, log_det = x, [], 0.0
  scored = len(x) - num_flows * window
  for index in reversed(range(num_flows)):
    own = f'{PREFIX}{index}.'
    flow = {k.removeprefix(own): v for k, v in weights.items() if k.startswith(own)}
    shift, scale, level = transform(level, flow, window)
    shown.append((shift, scale))
    log_det = log_det + np.log(scale)[-scored:].sum(axis=(2, 3, 4))
  log_normal = -0.5 * (level**2 + np.log(2 * np.pi)).sum(axis=(2, 3, 4))
  return shown, level, log_normal - log_det


def synthetic_weights(num_flows, frame_channels=3, window=2, width=4, depths=(2, 3), seed=0):
  """Random arrays under the names and shapes that the paper's code gives them."""
  rng = np.random.default_rng(seed)
  arrays = {}
  for m in range(num_flows):
    network = f'{PREFIX}{m}.network'
    inputs = {'encoder': frame_channels, 'decoder': window * width}
    for half, depth in zip(('encoder', 'decoder'), depths, strict=True):
      for k in range(depth):
        name = f'{network}.{half}.{k - 1}.main' if k else f'{network}.init_{half}.main'
        fan = width if k else inputs[half]
        arrays[f'{name}.0.weight'] = rng.normal(size=(width, fan, 3, 3)) / np.sqrt(9 * fan)
        for what in ('0.bias', '1.weight', '1.bias', '1.running_mean'):
          arrays[f'{name}.{what}'] = rng.normal(size=width) * 0.5 + (what == '1.weight')
        arrays[f'{name}.1.running_var'] = rng.uniform(0.5, 2.0, size=width)
    for head, bias in (('shift_net', 0.0), ('log_scale_net', 1.5)):
      shape = (frame_channels, width, 3, 3)
      arrays[f'{network}.{head}.weight'] = rng.normal(size=shape) / np.sqrt(9 * width)
      arrays[f'{network}.{head}.bias'] = bias + rng.normal(size=frame_channels) * 0.5
  return {name: value.astype(np.float32) for name, value in arrays.items()}


# ---- the same for the latent variable model ------------------------------------------------------


def convolve_strided(x, weight, bias):
  """4 x 4, stride 2, padding 1, of [N, C, H, W] with a kernel OIHW."""
  padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
  height, width = x.shape[2] // 2, x.shape[3] // 2
  out = np.zeros((len(x), len(weight), height, width)) + bias[:, None, None]
  for i in range(4):
    for j in range(4):
      taps = padded[:, :, i : i + 2 * height : 2, j : j + 2 * width : 2]
      out += np.einsum('oc,nchw->nohw', weight[:, :, i, j], taps)
  return out


def spread(x, weight, bias, stride):
  """Transposed 4 x 4 convolution with a kernel IOHW: every input adds a scaled kernel."""
  height, width = stride * (x.shape[2] - 1) + 4, stride * (x.shape[3] - 1) + 4
  out = np.zeros((len(x), weight.shape[1], height, width))
  for i in range(x.shape[2]):
    for j in range(x.shape[3]):
      added = np.einsum('nc,cohw->nohw', x[:, :, i, j], weight)
      out[:, :, stride * i : stride * i + 4, stride * j : stride * j + 4] += added
  out = out[:, :, 1:-1, 1:-1] if stride == 2 else out
  return out + bias[:, None, None]


def leaky_norm(x, w, name):
  w = {k: w[f'{name}.batch_norm.{k}'][:, None, None] for k in ('weight', 'bias')} | {
    k: w[f'{name}.batch_norm.running_{k}'][:, None, None] for k in ('mean', 'var')
  }
  x = (x - w['mean']) / np.sqrt(w['var'] + 1e-5) * w['weight'] + w['bias']
  return np.where(x > 0, x, 0.2 * x)


def lstm_layers(w, net, state, x):
  """One step of all layers; `state` is a list of [hidden, cell]."""
  for k, (h, c) in enumerate(state):
    name = f'{net}.temporal_network.layers.{k}.lstm'
    gates = x @ w[f'{name}.weight_ih'].T + h @ w[f'{name}.weight_hh'].T
    i, f, g, o = np.split(gates + w[f'{name}.bias_ih'] + w[f'{name}.bias_hh'], 4, axis=-1)
    c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
    x = h = np.tanh(c) / (1 + np.exp(-o))
    state[k] = [h, c]
  return x


def first_state(w, net, batch):
  layers = sum(f'{net}.temporal' in name and 'initial_hidden' in name for name in w)
  name = f'{net}.temporal_network.layers'
  return [
    [np.repeat(w[f'{name}.{k}.initial_{p}'], batch, axis=0) for p in ('hidden', 'cell')]
    for k in range(layers)
  ]


def heads(w, net, h):
  name = f'{net}.param_layers'
  loc, log_scale = (
    h @ w[f'{name}.{p}.layers.0.linear.weight'].T + w[f'{name}.{p}.layers.0.linear.bias']
    for p in ('loc', 'scale')
  )
  return loc, np.exp(np.clip(log_scale, -15, 5))


def latent_terms(y, w, eps, sigmoid):
  """log-likelihood and KL [T, B] of y [T, B, C, H, W] with posterior draws made of `eps`."""
  batch, z = y.shape[1], np.zeros((y.shape[1], eps.shape[-1]))
  states = {net: first_state(w, net, batch) for net in ('prior', 'approx_post')}
  terms = []
  for t in range(len(y)):
    h = z
    for k in range(2):
      name = f'prior.spatial_network.layers.{k}.linear'
      h = np.maximum(h @ w[f'{name}.weight'].T + w[f'{name}.bias'], 0)
    mu_p, s_p = heads(w, 'prior', lstm_layers(w, 'prior', states['prior'], h))
    h, net = y[t], 'approx_post.spatial_network.layers'
    h = leaky_norm(
      convolve_strided(h, w[f'{net}.0.linear.weight'], w[f'{net}.0.linear.bias']), w, f'{net}.0'
    )
    whole = np.einsum('nchw,ochw->no', h, w[f'{net}.1.linear.weight'])
    h = leaky_norm((whole + w[f'{net}.1.linear.bias'])[:, :, None, None], w, f'{net}.1')[:, :, 0, 0]
    h = lstm_layers(w, 'approx_post', states['approx_post'], np.concatenate([h, z], axis=-1))
    mu_q, s_q = heads(w, 'approx_post', h)
    z = mu_q + s_q * eps[t]
    h, net = z[:, :, None, None], 'cond_like.spatial_network.layers.0'
    h = leaky_norm(spread(h, w[f'{net}.linear.weight'], w[f'{net}.linear.bias'], 1), w, net)
    net = 'cond_like.param_layers'
    loc, raw = (
      spread(h, w[f'{net}.{p}.layers.0.linear.weight'], w[f'{net}.{p}.layers.0.linear.bias'], 2)
      for p in ('loc', 'scale')
    )
    loc, scale = 1 / (1 + np.exp(-loc)) if sigmoid else loc, np.exp(np.clip(raw, -15, 5))
    log_prob = -0.5 * (((y[t] - loc) / scale) ** 2 + np.log(2 * np.pi)) - np.log(scale)
    kl = np.log(s_p / s_q) + (s_q**2 + (mu_q - mu_p) ** 2) / (2 * s_p**2) - 0.5
    terms.append((log_prob.sum(axis=(1, 2, 3)), kl.sum(axis=1)))
  return [np.stack(values) for values in zip(*terms, strict=True)]


def latent_weights(channels=2, layers=2, seed=3):
  """Random arrays of an SLVM on 8 x 8 frames: z 3, LSTMs 5, convolutions 4."""
  rng = np.random.default_rng(seed)
  shapes = {}

  def layer(name, *shape, outputs, norm=False):
    shapes[f'{name}.linear.weight'], shapes[f'{name}.linear.bias'] = shape, (outputs,)
    for what in ('weight', 'bias', 'running_mean', 'running_var') if norm else ():
      shapes[f'{name}.batch_norm.{what}'] = (outputs,)

  posterior, decoder = 'approx_post.spatial_network.layers', 'cond_like.spatial_network.layers'
  layer(f'{posterior}.0', 4, channels, 4, 4, outputs=4, norm=True)
  layer(f'{posterior}.1', 6, 4, 4, 4, outputs=6, norm=True)
  layer(f'{decoder}.0', 3, 4, 4, 4, outputs=4, norm=True)
  for head in ('loc', 'scale'):
    layer(f'cond_like.param_layers.{head}.layers.0', 4, channels, 4, 4, outputs=channels)
    for net in ('prior', 'approx_post'):
      layer(f'{net}.param_layers.{head}.layers.0', 3, 5, outputs=3)
  layer('prior.spatial_network.layers.0', 4, 3, outputs=4)
  layer('prior.spatial_network.layers.1', 4, 4, outputs=4)
  for net, inputs in (('prior', 4), ('approx_post', 6 + 3)):
    for k in range(layers):
      name = f'{net}.temporal_network.layers.{k}'
      shapes.update({f'{name}.initial_{p}': (1, 5) for p in ('hidden', 'cell')})
      shapes[f'{name}.lstm.weight_ih'] = (20, 5 if k else inputs)
      shapes[f'{name}.lstm.weight_hh'] = (20, 5)
      shapes.update({f'{name}.lstm.bias_{p}': (20,) for p in ('ih', 'hh')})
  return {
    name: (rng.uniform(0.5, 2.0, shape) if 'var' in name else 0.4 * rng.normal(size=shape)).astype(
      np.float32
    )
    for name, shape in shapes.items()
  }
