"""Networks that turn a batch into predictions and embeddings, one file each."""
