"""Package metadata of afslvm; tool settings are in pyproject.toml, pins in launch/.

The lower bounds fit the oldest supported Python, 3.11, where jax stops at 0.10. On newer ones the
same requirements resolve to newer releases of jax and flax.
"""

import ast
import pathlib

import setuptools

ROOT = pathlib.Path(__file__).resolve().parent


def read_version() -> str:
  """Returns `__version__` from afslvm/__init__.py without importing it (jax may not be there)."""
  module = ast.parse((ROOT / 'afslvm' / '__init__.py').read_text(encoding='utf-8'))
  for node in module.body:
    if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '__version__':
      return ast.literal_eval(node.value)
  raise RuntimeError('afslvm/__init__.py does not assign __version__')


def read_readme() -> str:
  """Returns the README, or an empty text where only part of the tree was copied."""
  readme = ROOT / 'README.md'
  return readme.read_text(encoding='utf-8') if readme.is_file() else ''


setuptools.setup(
  name='afslvm',
  version=read_version(),
  description='Temporal autoregressive flows, sequential latent variable models and '
  'variational filtering in JAX and Flax.',
  long_description=read_readme(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=setuptools.find_packages(include=['afslvm', 'afslvm.*']),
  install_requires=[
    'absl-py>=2.3',  # flags and logging of the launch/ binaries
    'array-record>=0.8.3',  # the file format that TFDS writes and Grain reads without TensorFlow
    'chex>=0.1.91',  # assertions on trees of arrays, such as whole training states in tests
    'dm-pix>=0.4.5',  # PSNR and SSIM of predicted frames; needs jax and chex only
    'filelock>=3.16',  # with it JAX bounds the size of its cache of compiled programs
    'flax>=0.12.8',  # Linen modules and struct dataclasses
    'grain>=0.2.18',  # deterministic, resumable, sharded input pipeline
    'jax>=0.10.2',  # arrays, differentiation, jit, shardings
    'matplotlib>=3.10',  # figures of the report
    'ml-collections>=1.1',  # ConfigDict and its command-line overrides
    'numpy>=2.2',  # host arrays of the data builders and metrics
    'optax>=0.2.8',  # optimisers, schedules, clipping
    'orbax-checkpoint>=0.12.8',  # asynchronous checkpoints that carry shardings
    'pillow>=11',  # PNG and GIF of the report
    'scikit-learn>=1.6',  # load_digits: real handwritten digits without a download
    'scipy>=1.15',  # the LU factorisation that Glow's 1 x 1 layers begin with; JAX needs it
    'tensorboardX>=2.6.4',  # TensorBoard files without TensorFlow
    'tensorflow-datasets>=4.9.10',  # builders, splits, versions (the package needs no TensorFlow)
  ],
  extras_require={
    'cuda': ['jax[cuda13]>=0.10.2'],  # NVIDIA GPUs
    'tpu': ['jax[tpu]>=0.10.2'],  # Cloud TPU
    # Data sets made from recordings; kth and video_folder need av, bair needs google-crc32c.
    'video': [
      'av>=14',  # decodes videos with FFmpeg's libraries, which its wheels contain
      'google-crc32c>=1.6',  # checksums of TFRecords; in Python those of bair would take days
    ],
    # Data sets made from sound: timit, fsdd (from wav files) and audio_folder.
    'audio': [
      'soundfile>=0.13',  # RIFF, SPHERE and FLAC with libsndfile, which its wheels contain
    ],
    # Music: folders of MIDI files as data, samples as MIDI files.
    'music': [
      'pretty-midi>=0.2.11',  # notes in beats, and writing them; earlier ones need pkg_resources
    ],
    'test': [
      'av>=14',  # as in `video`, whose data sets are tested
      'google-crc32c>=1.6',  # likewise
      'pretty-midi>=0.2.11',  # as in `music`
      'soundfile>=0.13',  # as in `audio`
      'hypothesis>=6.130',  # damaged files for the readers of what users bring
      'ipykernel>=6.29',  # the kernel that nbclient starts
      'mypy>=1.15',  # types of what pyproject.toml names
      'nbclient>=0.10',  # runs the colabs in smoke mode
      'nbformat>=5.10',  # reads them
      'pytest>=8.3',  # runs the tests
      'pytest-xdist>=3.6',  # on two cores at a time
      'ruff>=0.11',  # lint and format
      'setuptools>=77',  # builds the editable install without a download (--no-build-isolation)
    ],
    'colab': [
      'ipykernel>=6.29',  # the kernel of the notebooks
      'nbclient>=0.10',  # runs them from the command line
      'nbformat>=5.10',  # reads them
    ],
  },
  classifiers=[
    'Intended Audience :: Science/Research',
    'Operating System :: POSIX :: Linux',
    'Programming Language :: Python :: 3',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
)
