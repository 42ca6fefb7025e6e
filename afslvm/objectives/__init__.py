"""Training objectives over any `SequenceModel`. Annealing and free bits live here and only here."""
