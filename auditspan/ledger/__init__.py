"""What makes the log provable: leaves, commitments, Merkle tree, checkpoints, keys."""
