"""Files that come in chunks: taken in, staged in the store, assembled into parts."""
