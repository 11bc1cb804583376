"""The family of errors that mlpot raises on purpose; each message names the culprit, its value and the remedy."""


class MlpotError(Exception):
    """Base of the family: catch it to catch everything that mlpot raises on purpose."""


class ConfigError(MlpotError, ValueError):
    """A configuration file or argument is wrong: unknown key, wrong type, impossible value."""


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


class RunFolderError(MlpotError, OSError):
    """A run folder cannot be used: not empty without --resume, owned by a living process, unreadable."""


class ProtocolError(MlpotError, ValueError):
    """What came from an i-PI server is not its protocol, or not about the atoms of the template."""


class ServerError(MlpotError, OSError):
    """No i-PI server answered in time, or its address cannot be one."""


class EvaluationError(MlpotError, RuntimeError):
    """Energies, forces or virials came out that no simulation may go on with: not finite, of a wrong shape."""


class ExplodedError(MlpotError, RuntimeError):
    """A simulation has blown up: a temperature, a displacement or an atom that no simulation may go on with."""
