"""Many runs from one command line: jobs, launchers, GPUs, searches, and what a sweep prints at its end."""
