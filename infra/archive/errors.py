"""The errors of an archive that cannot be used."""


class ArchiveDamaged(Exception):
    """The archive's folder or a file there cannot be read, or is not what it was; or it is another archive.

    The message says which, and the next step.
    """


class ArchiveUnreachable(ArchiveDamaged):
    """The bucket of the archive does not answer, or refuses. Once it answers again, all goes on."""


class CacheUnusable(ArchiveUnreachable):
    """The cache of the bucket, on this machine, cannot be read or written."""


class ArchiveTaken(Exception):
    """Another run has archived this generation meanwhile."""
