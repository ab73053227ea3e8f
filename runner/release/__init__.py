"""Release of a trained model: gate, published version, pins of the environments."""
