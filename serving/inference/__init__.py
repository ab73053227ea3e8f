"""From pictures to answers: the model is loaded, worker threads run it in batches."""
