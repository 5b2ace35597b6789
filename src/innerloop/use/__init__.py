"""A finished run, used: fitted to somebody's own task, asked, and taken away."""
