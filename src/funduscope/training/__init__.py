"""Training: from a recipe and labelled cases to a run folder. `run.run` is the entry."""


class TrainingError(RuntimeError):
    """A training that cannot go on; the message says why and what to do."""
