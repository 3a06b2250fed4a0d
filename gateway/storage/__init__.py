"""Everything that talks to object stores: one folder a kind of store."""
