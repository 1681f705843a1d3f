"""The errors of a store.

StoreError                  the call failed; an append may or may not have been recorded
 ├ Conflict                 another writer was first; nothing of the append was recorded
 ├ StreamUnreadable         one stream cannot be read (in infra/core/errors.py: the core decodes and folds)
 └ StoreSetupError          the file cannot be used; an operator has to act

The first two are the `eventsourcing` library's own, because its recorders raise them.
"""

from eventsourcing.persistence import IntegrityError, PersistenceError

StoreError = PersistenceError
"""The call failed. An append may or may not have been recorded."""

Conflict = IntegrityError
"""Another writer recorded a version first. Nothing of the append was recorded."""


class StoreSetupError(StoreError):
    """The file of a store or read model cannot be used as the guarantees need it. The message says which, and why."""
