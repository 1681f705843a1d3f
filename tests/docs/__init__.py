"""The pages for people, held against the code."""

import warnings

with warnings.catch_warnings():
    # Litestar 2.25 deprecates `Parameter(header=...)` where it is called: when the modules that use it are imported.
    warnings.filterwarnings("ignore", "Deprecated 'header' parameter", DeprecationWarning)
    import infra.http  # noqa: F401
    import order_svc.api  # noqa: F401
