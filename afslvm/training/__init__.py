"""The training loop over any `SequenceModel`: state, step, optimiser, checkpoints, records."""
