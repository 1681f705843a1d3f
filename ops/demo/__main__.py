"""`python -m ops.demo`: the same as `just demo`."""

from ops.demo.command import main

if __name__ == "__main__":
    main()
