"""Trains and evaluates one run, or with -m a sweep of them: what `innerloop train` does. `python train.py --help` lists the choices."""

from innerloop.sweeps.command import main

if __name__ == "__main__":
    main()
