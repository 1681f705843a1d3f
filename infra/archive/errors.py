"""The error of an archive that cannot be used."""


class ArchiveDamaged(Exception):
    """A file of the archive is missing, cannot be read, or is not what its manifest says. The message says which.

    It names the next step, too. Nothing was changed.
    """
