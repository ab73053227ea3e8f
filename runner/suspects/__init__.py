"""Label suspects: boxes that a model, which was not trained on their pictures, contradicts."""
