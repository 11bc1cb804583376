"""The family of errors that mlpot raises on purpose; each message names the culprit, its value and the remedy."""

import errno
import unicodedata
from typing import TypeVar

Present = TypeVar("Present")

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of characters that steer a terminal or a reader instead of being seen."""
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "; make room and do it again, a run with --resume"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "; allow more open files (ulimit -n 1024) and do it again, a run with --resume"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "; give permission, or name another place"),
    **dict.fromkeys((errno.EAGAIN, errno.ENOMEM), "; allow more processes or memory"),
}

SHORT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE)
"""Errors unrelated to the task itself, which would succeed with more memory, disk space or open files."""


def printable(text: str) -> str:
    """A text whose control characters are escaped, line ends apart: a file's content cannot steer a terminal through a message."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in HIDDEN else c.encode("unicode_escape").decode() for c in text
    )


def quoted(value: object, most: int = 60) -> str:
    """A value out of a file as one short line for a message, its control characters and line ends escaped."""
    text = printable(repr(value[: most + 1]) if isinstance(value, str) else str(value)).replace("\n", "\\n")
    return text if len(text) <= most else text[: most - 3] + "..."


def counted(n: int, noun: str) -> str:
    """A number and what is counted: "1 label", "2 labels"; nouns in -y after a consonant end in -ies.

    Parameters
    ----------
    n : int
    noun : str
        In the singular.
    """
    if n == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{n} {plural}"


def system_trouble(error: OSError | MemoryError) -> str:
    """Error of the operating system, as one line with the remedy."""
    if isinstance(error, MemoryError):
        return "out of memory; take fewer structures, sparse points or threads, or a larger machine"
    where = f"{error.filename}: " if error.filename else ""
    remedy = REMEDIES.get(error.errno or 0, "")
    return printable(f"{where}{error.strerror or error}{remedy}").replace("\n", " ")


class MlpotError(Exception):
    """Base of the family: catch it to catch everything that mlpot raises on purpose."""

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(MlpotError, ValueError):
    """A configuration file or argument is wrong: unknown key, wrong type, impossible value."""


class DescriptorError(ConfigError):
    """A descriptor that settings or a file name cannot be imported or made, or breaks the contract of `mlpot.Descriptor`."""


class StructureError(MlpotError, ValueError):
    """A structure cannot be used: empty, NaN positions, overlapping atoms, a flat periodic cell."""


class UnknownSpeciesError(StructureError):
    """A structure holds a chemical element that the model was not fitted for."""


class DataError(MlpotError, ValueError):
    """Labelled data cannot be used: unreadable file, missing labels, non-finite values."""


class FitError(MlpotError, RuntimeError):
    """A fit failed: too little data, a singular covariance."""


class ModelFileError(MlpotError, OSError):
    """A model file is unreadable, truncated, or of a newer format than this version knows."""


class UnsupportedPotentialError(ModelFileError):
    """A published potential holds a part, or an option of a part, that mlpot does not compute."""


class LabelError(MlpotError, RuntimeError):
    """A labeller did not deliver: the calculator raised, crashed, timed out, or returned garbage."""


class BaselineError(MlpotError, RuntimeError):
    """The calculator beneath a fit did not deliver, or a model file names one that is not trusted."""


class ResourceError(LabelError):
    """A label was not made for want of room on a disk, open files, processes or memory; its structure is not to blame."""


class RunFolderError(MlpotError, OSError):
    """A run folder cannot be used: not empty without --resume, owned by a living process, unreadable."""


class ProtocolError(MlpotError, ValueError):
    """Data from an i-PI server violate its protocol, or do not match the atoms of the template."""


class ServerError(MlpotError, OSError):
    """No i-PI server answered in time, or its address cannot be one."""


class EvaluationError(MlpotError, RuntimeError):
    """Energies, forces or virials came out that no simulation may go on with: not finite, of a wrong shape."""


class ExplodedError(MlpotError, RuntimeError):
    """A simulation has blown up: a temperature, a displacement or an atom that no simulation may go on with."""


class LammpsError(MlpotError, RuntimeError):
    """LAMMPS is missing, its pair style cannot be built, or LAMMPS stopped with an error."""


def required(value: Present | None, what: str) -> Present:
    """The value; MlpotError with its name where it is missing although nothing should have come this far without it."""
    if value is None:
        raise MlpotError(f"{what}: is missing; this is an error in mlpot, please report it")
    return value
