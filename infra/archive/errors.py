"""The error of an archive that cannot be used."""


class ArchiveDamaged(Exception):
    """The archive's folder or a file there cannot be read, or is not what it was; or it is another archive.

    The message says which, and the next step.
    """
