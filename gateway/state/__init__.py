"""Where sessions are remembered; one folder a kind of memory. None of it is the truth (law 4)."""
