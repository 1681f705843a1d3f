"""`python -m ops.dashboard`: the dashboard as `just up` starts it."""

from ops.dashboard.process import main

if __name__ == "__main__":
    main()
