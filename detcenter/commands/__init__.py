"""What the command line does: the only place where models, data, evaluation and training meet."""
