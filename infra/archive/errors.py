"""The errors of an archive that cannot be used."""


class ArchiveDamaged(Exception):
    """The archive cannot be read, is not what it was, has a format that is unknown here, or is another archive.

    The message says which, and the next step.
    """


class ArchiveUnreachable(ArchiveDamaged):
    """The bucket of the archive does not answer or refuses, or one of its settings cannot be used.

    Once the bucket answers again, a repeat succeeds. A wrong variable AWS_... needs a new start of the process.
    """


class CacheUnusable(ArchiveUnreachable):
    """The cache of the bucket, on this machine, cannot be read or written."""


class ArchiveTaken(Exception):
    """Another run has archived this generation meanwhile."""
