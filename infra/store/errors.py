"""The errors of a store.

StoreError                  the call failed; an append may or may not have been recorded
 ├ Conflict                 a version is taken already; nothing of the append was recorded
 ├ StreamUnreadable         one stream cannot be read (in infra/core/errors.py: the core decodes and folds)
 └ StoreSetupError          a file cannot be used; an operator has to act

The first two are the `eventsourcing` library's own, because its recorders raise them.
"""

from eventsourcing.persistence import IntegrityError, PersistenceError

StoreError = PersistenceError
"""A call of the store failed. A failed append, unless with Conflict, may have recorded all of its records, or none."""

Conflict = IntegrityError
"""The log already has a record with the stream and version of a new one. Nothing of the append was recorded."""


class StoreSetupError(StoreError):
    """The file of a store or read model cannot be used: it does not open, is not durable, or belongs to another log.

    An open store raises this, too, once its file is damaged, deleted, replaced or overwritten. The message says which
    file, and why.
    """
