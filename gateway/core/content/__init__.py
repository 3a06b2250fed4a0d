"""Which files are taken: by name, declared type, first bytes and size."""
